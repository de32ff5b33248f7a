"""Files of timm's weights in a detector: every tensor arrives, and what does not fit is said."""

import re

import pytest
import torch
from safetensors.torch import save_file

from tests.engine.tiny import tiny_config
from tests.extras import needs
from tests.modeling.backbone.timm_models import MODELS, with_timm

pytestmark = needs("timm")

import huggingface_hub  # noqa: E402
import timm  # noqa: E402
from detectron2.modeling import build_model  # noqa: E402
from detectron2.utils.file_io import PathManager  # noqa: E402

from vfnet.checkpoint import VFNetCheckpointer, weights_mismatches  # noqa: E402
from vfnet.errors import UserError  # noqa: E402


def classifier(name):
    """A model of timm as it is published: with a classifier."""
    model, kwargs = MODELS[name]
    torch.manual_seed(1)
    return timm.create_model(model, num_classes=7, **dict(kwargs))


def detector(name):
    torch.manual_seed(0)
    return build_model(with_timm(tiny_config(""), name))


def authors_names(name, weights):
    """Swin's authors number the steps between stages from the stage before."""
    if name != "swin":
        return weights
    later = {re.sub(r"head\.fc\.", "head.", n): value for n, value in weights.items()}
    step = re.compile(r"layers\.(\d)\.downsample")
    return {
        step.sub(lambda found: f"layers.{int(found[1]) - 1}.downsample", n): value
        for n, value in later.items()
    }


@pytest.mark.parametrize("kind", ["safetensors", "pth", "state_dict", "authors"])
@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_arrives_and_the_classifier_is_left_over(name, kind, tmp_path, caplog):
    weights = classifier(name).state_dict()
    path = tmp_path / f"model.{kind if kind == 'safetensors' else 'pth'}"
    if kind == "safetensors":
        save_file(weights, str(path))
    else:
        written = {"state_dict": {"state_dict": weights, "epoch": 3}, "pth": weights}
        torch.save(written.get(kind, {"model": authors_names(name, weights)}), path)
    model = detector(name)
    head = model.head.cls_pred.weight.clone()
    with caplog.at_level("INFO"):
        VFNetCheckpointer(model).load(str(path))
    loaded = model.backbone.bottom_up.model.state_dict()
    assert all(torch.equal(value, weights[n]) for n, value in loaded.items())
    left = sorted(set(weights) - set(loaded))
    (line,) = [r.message for r in caplog.records if "left over" in r.message]
    assert sorted(re.findall(r"[\w.]+\.(?:weight|bias)\b", line)) == left
    assert torch.equal(model.head.cls_pred.weight, head)


def test_an_exact_fit_is_asked_for(tmp_path):
    path = tmp_path / "model.pth"
    weights = classifier("convnext").state_dict()
    missing = dict(weights)
    del missing["stages.1.blocks.0.norm.weight"]
    other = {**weights, "stages.0.blocks.1.norm.weight": torch.ones(8)}
    shape = {**weights, "stem.0.bias": torch.ones(9)}
    for found, message in (
        (missing, "Missing in the file: backbone.bottom_up.model.stages.1.blocks.0.norm.weight"),
        (other, "Not in the model: backbone.bottom_up.model.stages.0.blocks.1.norm.weight"),
        (shape, r"stem.0.bias \(9,\) instead of \(8,\)"),
    ):
        torch.save(found, path)
        for method in ("load", "check"):
            with pytest.raises(UserError, match=message):
                getattr(VFNetCheckpointer(detector("convnext")), method)(str(path))


def test_another_models_weights_are_refused(tmp_path):
    path = tmp_path / "model.pth"
    torch.save(classifier("convnext").state_dict(), path)
    with pytest.raises(UserError, match="does not fit"):
        VFNetCheckpointer(detector("mobilenet")).load(str(path))
    torch.save(classifier("swin").state_dict(), path)
    with pytest.raises(UserError, match="expected weights of timm's convnext_atto"):
        VFNetCheckpointer(detector("convnext")).load(str(path))


def test_a_backbone_is_no_whole_detector(tmp_path):
    path = tmp_path / "model.pth"
    torch.save(classifier("convnext").state_dict(), path)
    with pytest.raises(UserError, match="expected a whole detector"):
        VFNetCheckpointer(detector("convnext"), whole_detector=True).load(str(path))


def test_a_whole_detector_loads_as_ever(tmp_path):
    path = tmp_path / "model.pth"
    trained = detector("swin")
    torch.nn.init.normal_(trained.head.cls_pred.weight)
    torch.save({"model": trained.state_dict()}, path)
    model = build_model(with_timm(tiny_config(""), "swin"))
    VFNetCheckpointer(model, whole_detector=True).load(str(path))
    assert all(torch.equal(v, trained.state_dict()[n]) for n, v in model.state_dict().items())


def test_a_published_name_is_downloaded_once_by_the_hub(tmp_path, monkeypatch):
    asked = []

    def download(repository, file, force_download=False):
        asked.append((repository, file))
        save_file(classifier("convnext").state_dict(), str(tmp_path / file))
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    model = detector("convnext")
    VFNetCheckpointer(model).load("timm://convnext_atto.d2_in1k")
    assert set(asked) == {("timm/convnext_atto.d2_in1k", "model.safetensors")}
    assert torch.equal(
        model.backbone.bottom_up.model.stem[0].weight, classifier("convnext").stem[0].weight
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [("convnext_atto.none", "Invalid pretrained tag"), ("nothing", "publishes no weights of")],
)
def test_a_name_without_weights_is_an_error(name, message):
    with pytest.raises(UserError, match=message):
        PathManager.get_local_path(f"timm://{name}")


def test_a_failed_download_is_one_line(monkeypatch):
    def fail(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(UserError, match="cannot be fetched from timm/convnext_atto"):
        PathManager.get_local_path("timm://convnext_atto.d2_in1k")


def test_a_warning_has_the_statistics_that_a_model_was_trained_with():
    cfg = with_timm(tiny_config("", "MODEL.WEIGHTS", "convnext.safetensors"), "convnext")
    assert weights_mismatches(cfg) == []
    cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT = [1.0, 1.0, 1.0], "BGR"
    std, order = weights_mismatches(cfg)
    assert "MODEL.PIXEL_STD" in std and "[58.395, 57.12, 57.375]" in std
    assert "INPUT.FORMAT is BGR" in order and "trained with RGB" in order
    # From scratch it makes no difference.
    cfg.MODEL.WEIGHTS = ""
    assert weights_mismatches(cfg) == []
