"""A head that has diverged is seen in what its detector records."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from tests.engine.tiny import picture, tiny_config
from tests.engine.tiny_family import CONFIGS
from vfnet.modeling.divergence import divergence_signs

BOX_LAYERS = {
    "vfnet": "head.box_pred",
    "atss": "head.delta_pred",
    "gfl": "head.distribution_pred",
    "foveabox": "head.distance_pred",
    "reppoints": "head.refined_points_pred",
    "retinanet": "head.bbox_pred",
}


def test_the_signs_of_a_batch():
    raw = [torch.tensor([[1.0, -7.0]]), torch.tensor([3.0])]
    signs = divergence_signs(raw, torch.tensor([0.0, 1e-4, 1e-3, 0.9]))
    assert signs["largest_raw_distance"] == 7
    assert signs["positives_without_overlap"] == 0.5
    assert divergence_signs(raw, torch.zeros(0))["positives_without_overlap"] == 0


@pytest.mark.parametrize(("name", "layer"), BOX_LAYERS.items())
def test_boxes_blown_up_are_seen_though_no_loss_is_infinite(tmp_path, name, layer):
    torch.manual_seed(0)
    model = build_model({"vfnet": tiny_config, **CONFIGS}[name](tmp_path)).train()
    layer = model.get_submodule(layer)

    def step():
        with EventStorage() as storage:
            losses = model([picture(1), picture(2)])
        of_model = type(model).__name__.lower()
        keys = ("largest_raw_distance", "positives_without_overlap")
        return losses, *(storage.latest()[f"{of_model}/{key}"][0] for key in keys)

    _, largest, missed = step()
    assert 0 < largest < 10
    if name != "reppoints":  # its boxes start as points
        assert missed < 0.5
    with torch.no_grad():
        layer.weight.mul_(1e18)
    losses, largest, missed = step()
    assert largest > 1e12
    if name == "vfnet":
        assert missed > 0.9
        assert all(value.isfinite() for value in losses.values())
        assert losses["loss_box_init"] < 1  # looks like a head that has converged


def test_nothing_is_kept_where_nothing_is_trained(tmp_path):
    model = build_model(tiny_config(tmp_path)).eval()
    assert model.predict([picture(1)])[2].raw_boxes == []
    assert len(model.train().predict([picture(1)])[2].raw_boxes) == 10
