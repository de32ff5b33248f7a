"""INPUT.RESIZE by the weights: the rule, and whether somebody chose."""

import pytest
import torch

from vfnet import get_cfg
from vfnet.checkpoint import take_resize, training_resize
from vfnet.checkpoint.resize import is_chosen, resize_of_detector

NAMES = ["vfnet://vfnet_R50_1x", "vfnet:/vfnet_R50_1x", "mmdet://a.pth", "mmdet:/abs/a.pth"]


@pytest.mark.parametrize("weights", NAMES)
def test_weights_of_mmdet_are_tested_with_cv2_unless_another_was_chosen(weights):
    value, line = resize_of_detector(weights, "pil", chosen=False)
    assert value == "cv2" and "is cv2" in line and weights in line
    value, line = resize_of_detector(weights, "pil", chosen=True)
    assert value == "pil" and "stays pil" in line and weights in line
    assert resize_of_detector(weights, "cv2", chosen=True) == ("cv2", "")


@pytest.mark.parametrize("chosen", [False, True])
def test_a_training_run_keeps_its_own(chosen):
    value, line = resize_of_detector(NAMES[0], "pil", chosen, training=True)
    assert value == "pil" and "stays pil" in line and NAMES[0] in line
    assert resize_of_detector(NAMES[0], "cv2", chosen, training=True) == ("cv2", "")


@pytest.mark.parametrize("weights", ["", "output/model_final.pth", "https://a/b.pth", "my_vfnet:x"])
@pytest.mark.parametrize("value, chosen", [("pil", False), ("pil", True), ("cv2", True)])
def test_other_weights_change_nothing(weights, value, chosen):
    assert resize_of_detector(weights, value, chosen) == (value, "")


def _assigned(cfg, tmp_path):
    cfg.INPUT.RESIZE = "pil"


def _from_a_list(cfg, tmp_path):
    cfg.merge_from_list(["INPUT.RESIZE", "pil"])


def _from_a_base(cfg, tmp_path):
    (tmp_path / "base.yaml").write_text("VERSION: 2\nINPUT: {RESIZE: pil}")
    (tmp_path / "child.yaml").write_text("_BASE_: base.yaml")
    cfg.merge_from_file(str(tmp_path / "child.yaml"))


@pytest.mark.parametrize("choose", [_assigned, _from_a_list, _from_a_base])
def test_the_default_is_told_from_the_same_value_when_chosen(choose, tmp_path):
    cfg = get_cfg()
    cfg.merge_from_list(["INPUT.FORMAT", "RGB"])
    for unchosen in (cfg, cfg.clone()):
        assert unchosen.INPUT.RESIZE == "pil" and not is_chosen(unchosen)
    choose(cfg, tmp_path)
    for chosen in (cfg, cfg.clone()):
        assert chosen.INPUT.RESIZE == "pil" and is_chosen(chosen)


def test_a_config_that_holds_what_was_taken_says_nothing_more():
    cfg = get_cfg()
    cfg.MODEL.WEIGHTS = NAMES[0]
    assert "is cv2" in take_resize(cfg) and cfg.INPUT.RESIZE == "cv2"
    assert take_resize(cfg) == "" and cfg.INPUT.RESIZE == "cv2"


def test_a_training_run_speaks_of_a_detector_and_not_of_a_backbone(
    repository, monkeypatch, tmp_path
):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    detector = repository / "tests" / "reference" / "mini_r50.pth"
    weights = torch.load(detector, weights_only=True)["state_dict"]
    backbone = {n[len("backbone.") :]: v for n, v in weights.items() if n.startswith("backbone.")}
    torch.save(backbone, tmp_path / "backbone.pth")
    cfg = get_cfg()
    for file, said in ((detector, True), (tmp_path / "backbone.pth", False)):
        cfg.MODEL.WEIGHTS = f"mmdet://{file}"
        assert ("stays pil" in training_resize(cfg)) == said
        assert cfg.INPUT.RESIZE == "pil" and not is_chosen(cfg)
