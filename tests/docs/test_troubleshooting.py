"""docs/troubleshooting.md: what it says of sizes and schedules is what the code does."""

import re

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from tests.engine.tiny import picture, tiny_config
from vfnet.engine import Trainer
from vfnet.modeling.matching.atss import atss_match_batch

HEIGHT, WIDTH = 800, 1344
STRIDES = [8, 16, 32, 64, 128]
SIZES = [(-(-HEIGHT // stride), -(-WIDTH // stride)) for stride in STRIDES]


def share_without_location(width, height, count=4000):
    """In percent, of boxes of this size at random places, each in a picture of its own."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator)
    corner *= torch.tensor([WIDTH - width, HEIGHT - height])
    boxes = torch.cat([corner, corner + torch.tensor([width, height])], dim=1)
    valid = torch.tensor(SIZES).expand(count, -1, -1)
    _, learnt = atss_match_batch(boxes, torch.arange(count), valid, SIZES, STRIDES)
    return 100 * (1 - len(learnt.unique()) / count)


def test_the_shares_of_small_boxes_without_a_location(repository):
    page = (repository / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    table = page.split("<!-- unassigned -->")[1].split("<!-- /unassigned -->")[0]
    rows = re.findall(r"\| (\d+) x (\d+) \| (\d+) % \|", table)
    assert len(rows) == 7
    for width, height, share in rows:
        # Of 4000 boxes a share varies by less than a percent (standard deviation).
        expected = pytest.approx(int(share), abs=3)
        assert share_without_location(int(width), int(height)) == expected, (width, height)


def test_a_pyramid_from_p2_on_trains(tmp_path):
    stages = "['res2','res3','res4','res5']"
    cfg = tiny_config(
        tmp_path,
        *("MODEL.RESNETS.OUT_FEATURES", stages, "MODEL.FPN.IN_FEATURES", stages),
        *("MODEL.VFNET.IN_FEATURES", "['p2','p3','p4','p5','p6','p7']"),
    )
    model = build_model(cfg).train()
    assert model.strides == [4, *STRIDES]
    with EventStorage():
        losses = model([picture(1)])
    assert all(loss.isfinite() for loss in losses.values())


def test_a_config_for_more_processes_is_scaled_where_it_says_for_how_many(tmp_path):
    given = tiny_config(tmp_path, "SOLVER.REFERENCE_WORLD_SIZE", "2")
    trainer = Trainer(given)
    assert trainer.cfg.SOLVER.IMS_PER_BATCH == given.SOLVER.IMS_PER_BATCH // 2
    assert trainer.cfg.SOLVER.BASE_LR == given.SOLVER.BASE_LR / 2
    assert trainer.max_iter == trainer.cfg.SOLVER.MAX_ITER == 2 * given.SOLVER.MAX_ITER
    assert trainer.optimizer.defaults["lr"] == given.SOLVER.BASE_LR / 2
