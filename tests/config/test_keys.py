"""The nodes of detectors, and keys by an old name."""

import pytest
from detectron2.config import get_cfg as get_detectron2_cfg

from vfnet import add_vfnet_config, get_cfg
from vfnet.config import dense_node, detector_key, detector_node
from vfnet.errors import UserError


@pytest.mark.parametrize(
    ("architecture", "key"),
    [
        ("VFNet", "MODEL.VFNET"),
        ("RetinaNet", "MODEL.RETINANET"),
        ("GeneralizedRCNN", "MODEL.ROI_HEADS"),
    ],
)
def test_the_configured_detector_has_a_node_with_its_classes(architecture, key):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = architecture
    assert detector_key(cfg) == key
    node = detector_node(cfg)
    node.NUM_CLASSES, node.CLASS_NAMES = 2, ["cat", "dog"]
    assert f"{key.partition('.')[2]}:" in cfg.dump()
    assert detector_node(cfg).CLASS_NAMES == ["cat", "dog"]


def test_an_unknown_detector_is_an_error():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "YOLO"
    with pytest.raises(UserError, match="META_ARCHITECTURE YOLO has no node MODEL.YOLO"):
        detector_node(cfg)


def test_the_keys_are_added_to_detectron2s_and_its_detector_stays():
    cfg = get_detectron2_cfg()
    architecture = cfg.MODEL.META_ARCHITECTURE
    add_vfnet_config(cfg)
    assert cfg.MODEL.META_ARCHITECTURE == architecture
    assert get_cfg().MODEL.META_ARCHITECTURE == "VFNet"
    assert "VFNET" not in get_detectron2_cfg().MODEL  # no global was touched


def test_a_node_starts_from_the_familys_defaults():
    assert dense_node().NUM_CONVS == 4
    assert dense_node(NUM_CONVS=3).NUM_CONVS == 3
    assert set(dense_node()) <= set(get_cfg().MODEL.VFNET)
