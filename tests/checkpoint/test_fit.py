"""Class layers of the family: which names they have, and how many classes."""

import pytest
import torch

from vfnet.checkpoint.fit import count_classes, differing_class_layer, has_head


def layer(name, outputs):
    return {f"{name}.weight": torch.zeros(outputs, 4), f"{name}.bias": torch.zeros(outputs)}


def locations(classes):
    return {**layer("head.cls_pred", classes), **layer("head.box_pred", 4)}


def anchors(classes):
    return {**layer("head.cls_score", 9 * classes), **layer("head.bbox_pred", 36)}


def regions(classes):
    predictor = "roi_heads.box_predictor"
    return {
        **layer("proposal_generator.rpn_head.anchor_deltas", 12),
        **layer(f"{predictor}.cls_score", classes + 1),
        **layer(f"{predictor}.bbox_pred", 4 * classes),
    }


@pytest.mark.parametrize("detector", [locations, anchors, regions])
def test_another_number_of_classes_differs_in_the_class_layer_alone(detector):
    assert count_classes(detector(7)) == 7
    assert differing_class_layer(detector(7), detector(7)) == []
    names = differing_class_layer(detector(7), detector(3))
    same = {name for name, value in detector(7).items() if value.shape == detector(3)[name].shape}
    assert set(names) == set(detector(7)) - same
    assert has_head(detector(7))


def test_a_backbone_has_neither_head_nor_classes():
    backbone = layer("backbone.bottom_up.stem.conv1", 8)
    assert not has_head(backbone)
    assert count_classes(backbone) is None
    assert differing_class_layer(backbone, locations(3)) == []


def test_another_number_of_anchors_is_not_another_number_of_classes():
    other = {**layer("head.cls_score", 15), **layer("head.bbox_pred", 12)}
    assert count_classes(other) == 5
    # Its boxes do not fit either, which the checkpointer names.
    assert "head.bbox_pred.weight" not in differing_class_layer(other, anchors(5))
