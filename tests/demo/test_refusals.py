"""What demo/demo.py refuses: before it writes anything, in one sentence."""

import pickle

import pytest
import torch
import torchvision

from vfnet.errors import UserError

from .commands import predict


def test_what_is_not_there_is_named_before_anything_is_written(demo, model, tmp_path):
    with pytest.raises(UserError, match=r"found nothing at .*missing\.png"):
        predict(demo, model, [tmp_path / "missing.png"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (("--confidence-threshold", 1.5), "from 0 to 1, got 1.5"),
        (("--classes", "screw"), "got 'screw'; there are nut, bolt, washer"),
        (("--coco-json", "no/such.json", "--save", "coco"), r"no/such\.json"),
        (("--coco-json", "no/such.json"), "give that too"),
        (("--output", __file__), "is a file"),
        (("--config-file", "no/such.yaml"), r"no/such\.yaml"),
        (("--opts", "MODEL.WEIGHTS", ""), "nothing to predict with"),
        (("--opts", "MODEL.WEIGHTS", "no/such.pth"), r"no/such\.pth"),
        (("--opts", "MODEL.NO_SUCH_KEY", "1"), "NO_SUCH_KEY"),
        (("--opts", "MODEL.VFNET.CLASS_NAMES", "['nut']"), "3"),
        (("--opts", "MODEL.VFNET.CLASS_NAMES", "[]"), r"far_away\.json"),
    ],
)
def test_bad_settings_are_named_and_write_nothing(demo, model, pictures, tmp_path, more, message):
    output = tmp_path / "out"
    with pytest.raises(UserError, match=message):
        predict(demo, model, [pictures], output, *more)
    assert not output.exists()


def _without_a_name(weights):
    del weights["head.cls_pred.weight"]


def _with_five_classes(weights):
    for name in ("head.cls_pred.weight", "head.cls_pred.bias"):
        weights[name] = torch.cat([weights[name], weights[name][:2]])


def _backbone_alone(weights):
    for name in [name for name in weights if name.startswith("head.")]:
        del weights[name]


@pytest.mark.parametrize(
    "change, message",
    [
        (_without_a_name, r"Missing in the file: head\.cls_pred\.weight"),
        (_with_five_classes, r"head\.cls_pred\.weight \(5, .* instead of \(3, "),
        (_backbone_alone, "expected a whole detector"),
    ],
)
def test_weights_of_another_model_are_refused(demo, model, pictures, tmp_path, change, message):
    content = torch.load(model / "model.pth", weights_only=True)
    change(content["model"])
    other = tmp_path / "other.pth"
    torch.save(content, other)
    with pytest.raises(UserError, match=message):
        predict(demo, model, [pictures], tmp_path / "out", "--opts", "MODEL.WEIGHTS", other)
    assert not (tmp_path / "out").exists()


def test_a_backbone_of_imagenet_is_refused(demo, model, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    layers = torchvision.models.resnet18().state_dict()
    torch.save(layers, tmp_path / "resnet18.pth")
    (tmp_path / "R-18.pkl").write_bytes(
        pickle.dumps({"stem.conv1.weight": layers["conv1.weight"].numpy()})
    )
    for weights in (f"mmdet://{tmp_path}/resnet18.pth", tmp_path / "R-18.pkl"):
        with pytest.raises(UserError, match="expected a whole detector"):
            predict(demo, model, [pictures], tmp_path / "out", "--opts", "MODEL.WEIGHTS", weights)
    assert not (tmp_path / "out").exists()
