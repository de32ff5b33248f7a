"""TEST.SLICE and `Slicing`: which values there are. None of it needs SAHI."""

import sys

import pytest

from vfnet import get_cfg
from vfnet.errors import UserError
from vfnet.slicing import Slicing, require_sahi, slicing_of


def config(architecture="VFNet", **values):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = architecture
    for key, value in values.items():
        cfg.TEST.SLICE[key] = value
    return cfg


def test_by_default_there_are_no_slices():
    assert slicing_of(config()) is None


@pytest.mark.parametrize(
    "architecture, threshold",
    [("VFNet", 0.6), ("FoveaBox", 0.5), ("QualityRetinaNet", 0.5), ("GeneralizedRCNN", 0.5)],
)
def test_slices_are_merged_with_the_threshold_of_the_detector_s_own_suppression(
    architecture, threshold
):
    cfg = config(architecture, SIZE=640)
    assert slicing_of(cfg) == Slicing(640, 0.2, True, "nms", "iou", threshold)
    cfg.TEST.SLICE.MERGE_THRESH = 0.3
    assert slicing_of(cfg).threshold == 0.3


@pytest.mark.parametrize(
    "values, message",
    [
        ({"SIZE": -640}, "at least 32 pixels, got -640"),
        ({"SIZE": 31}, "at least 32 pixels, got 31"),
        ({"OVERLAP": 1.0}, "from 0 to below 1, such as 0.2, got 1.0"),
        ({"OVERLAP": -0.1}, "from 0 to below 1, such as 0.2, got -0.1"),
        ({"OVERLAP": float("nan")}, "from 0 to below 1"),
        ({"MERGE": "wbf"}, "nms, nmm, greedy_nmm, got 'wbf'"),
        ({"MERGE_METRIC": "giou"}, "iou, ios, got 'giou'"),
        ({"MERGE_THRESH": 1.5}, "at most 1, got 1.5"),
        ({"MERGE_THRESH": -0.5}, "above 0 and at most 1, got -0.5"),
        ({"BATCH_SIZE": 0}, "TEST.SLICE.BATCH_SIZE of at least 1, got 0"),
    ],
)
def test_a_value_that_cannot_be_is_named(values, message):
    with pytest.raises(UserError, match="TEST.SLICE") as caught:
        slicing_of(config(**{"SIZE": 640, **values}))
    assert message in str(caught.value)


def test_without_sahi_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sahi", None)
    with pytest.raises(UserError, match=r'pip install "vfnet-detectron2\[sahi\]"'):
        require_sahi()
