"""Names of Faster R-CNN, and of pyramids that start at P2, are balanced, or both."""

import logging

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model

from tests.engine.tiny_libra import libra_config
from tests.minis import load_mini, mini_config
from vfnet.checkpoint import (
    VFNetCheckpointer,
    convert_file_back,
    convert_state_dict,
    to_mmdet_state_dict,
)
from vfnet.errors import UserError

MINI = "mini_libra_faster_rcnn"


def without_counters(state_dict):
    return {k: v for k, v in state_dict.items() if not k.endswith("num_batches_tracked")}


def test_a_two_stage_detector_is_the_models_in_every_name_and_shape_and_comes_back(shared):
    folder = shared / "reference/family"
    source = torch.load(folder / f"{MINI}.pth", weights_only=True)["state_dict"]
    converted = convert_state_dict(source)
    ours = without_counters(build_model(mini_config(folder, MINI)).state_dict())
    del ours["roi_heads.floor_at_zero"]
    assert {n: v.shape for n, v in converted.items()} == {n: v.shape for n, v in ours.items()}
    back, expected = to_mmdet_state_dict(converted), without_counters(source)
    assert list(back) == list(expected)
    assert all(torch.equal(back[name], expected[name]) for name in expected)


def test_it_loads_without_a_complaint_and_may_be_written_back(shared, tmp_path, caplog):
    folder = shared / "reference/family"
    with caplog.at_level(logging.WARNING):
        model, _, cfg = load_mini(folder, MINI)
        VFNetCheckpointer(model, whole_detector=True).load(cfg.MODEL.WEIGHTS)
    assert not [r for r in caplog.records if r.name.startswith(("fvcore", "detectron2", "vfnet"))]
    DetectionCheckpointer(model, str(tmp_path)).save("own")
    state_dict = convert_file_back(str(tmp_path / "own.pth"), list("abcde"))["state_dict"]
    source = torch.load(folder / f"{MINI}.pth", weights_only=True)["state_dict"]
    assert set(state_dict) == set(without_counters(source))
    with pytest.raises(UserError, match="the names of the 5 classes of .*, got 6"):
        convert_file_back(str(tmp_path / "own.pth"), list("abcdef"))


PAIRS = [
    ("neck.0.lateral_convs.3.conv.weight", "backbone.pyramid.fpn_lateral5.weight"),
    ("neck.0.lateral_convs.0.conv.weight", "backbone.pyramid.fpn_lateral2.weight"),
    ("neck.0.fpn_convs.1.conv.bias", "backbone.pyramid.fpn_output3.bias"),
    ("neck.0.fpn_convs.5.conv.bias", "backbone.pyramid.top_block.p7.bias"),
    ("neck.1.refine.conv_out.conv.bias", "backbone.bfp.refine.conv_out.bias"),
    ("neck.1.refine.conv.weight", "backbone.bfp.refine.weight"),
    ("backbone.conv1.weight", "backbone.pyramid.bottom_up.stem.conv1.weight"),
    ("rpn_head.rpn_conv.weight", "proposal_generator.rpn_head.conv.weight"),
    ("rpn_head.rpn_cls.bias", "proposal_generator.rpn_head.objectness_logits.bias"),
    ("rpn_head.rpn_reg.weight", "proposal_generator.rpn_head.anchor_deltas.weight"),
    ("roi_head.bbox_head.shared_fcs.0.bias", "roi_heads.box_head.fc1.bias"),
    ("roi_head.bbox_head.shared_fcs.1.weight", "roi_heads.box_head.fc2.weight"),
    ("roi_head.bbox_head.fc_cls.weight", "roi_heads.box_predictor.cls_score.weight"),
    ("roi_head.bbox_head.fc_reg.bias", "roi_heads.box_predictor.bbox_pred.bias"),
]
# Four levels of its own, not balanced; and a balanced pyramid from P3 on.
P2 = [
    ("neck.lateral_convs.0.conv.bias", "backbone.fpn_lateral2.bias"),
    ("neck.lateral_convs.3.conv.bias", "backbone.fpn_lateral5.bias"),
    ("neck.fpn_convs.4.conv.weight", "backbone.top_block.p6.weight"),
]
BALANCED_P3 = [
    ("neck.0.lateral_convs.0.conv.bias", "backbone.pyramid.fpn_lateral3.bias"),
    ("neck.0.fpn_convs.3.conv.bias", "backbone.pyramid.top_block.p6.bias"),
]
BALANCED_PAFPN = [
    ("neck.0.lateral_convs.0.conv.bias", "backbone.pyramid.fpn.fpn_lateral3.bias"),
    ("neck.0.pafpn_convs.1.conv.weight", "backbone.pyramid.output.1.weight"),
    ("neck.0.fpn_convs.3.gn.bias", "backbone.pyramid.p6.norm.bias"),
    ("backbone.layer1.0.conv1.weight", "backbone.pyramid.fpn.bottom_up.res2.0.conv1.weight"),
]


@pytest.mark.parametrize("pairs", [PAIRS, P2, BALANCED_P3, BALANCED_PAFPN])
def test_names_have_their_counterparts_in_both_directions(pairs):
    mmdet, ours = zip(*pairs)
    assert list(convert_state_dict(dict.fromkeys(mmdet, torch.ones(1)))) == list(ours)
    assert list(to_mmdet_state_dict(dict.fromkeys(ours, torch.ones(1)))) == list(mmdet)


@pytest.mark.parametrize(
    "overrides",
    [
        ("MODEL.FPN.P6_FROM", "p5"),
        ("MODEL.BFP.REFINE", "conv"),
        ("MODEL.BFP.REFINE", ""),
        ("MODEL.BACKBONE.NAME", "build_vfnet_resnet_fpn_backbone"),
    ],
)
def test_every_pyramid_that_can_be_built_comes_back(overrides):
    model = build_model(libra_config("", *overrides))
    source = without_counters(model.state_dict())
    del source["roi_heads.floor_at_zero"]
    back = convert_state_dict(to_mmdet_state_dict(source))
    assert list(back) == list(source)
    assert all(back[name] is source[name] for name in source)


@pytest.mark.parametrize("agnostic", ["False", "True"])
def test_another_number_of_classes_starts_both_last_layers_anew(tmp_path, caplog, agnostic):
    agnostic_boxes = ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", agnostic)
    trained = build_model(libra_config("", "MODEL.ROI_HEADS.NUM_CLASSES", "7", *agnostic_boxes))
    model = build_model(libra_config("", *agnostic_boxes))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save({"model": trained.state_dict()}, tmp_path / "trained.pth")
    with caplog.at_level(logging.INFO):
        VFNetCheckpointer(model).load(str(tmp_path / "trained.pth"))
    assert "class layer re-initialised (7 -> 3 classes), all else loaded" in caplog.text
    for name, value in model.state_dict().items():
        anew = "cls_score" in name or ("bbox_pred" in name and agnostic == "False")
        assert torch.equal(value, before[name] if anew else trained.state_dict()[name]), name


def test_weights_that_lack_a_stage_are_refused(tmp_path):
    model = build_model(libra_config(""))
    weights = {n: v for n, v in model.state_dict().items() if not n.startswith("proposal_")}
    torch.save({"model": weights}, tmp_path / "half.pth")
    with pytest.raises(UserError, match="Missing in the file: proposal_generator.rpn_head.conv"):
        VFNetCheckpointer(model, whole_detector=True).load(str(tmp_path / "half.pth"))
