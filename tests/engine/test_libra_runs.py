"""A two-stage detector in all that a run does: it learns, goes on, is averaged, is scored."""

import cv2
import pytest
import torch

from tests.evaluation.coco_files import IMAGE_IDS, annotation, write_coco
from vfnet.data import register_coco_format
from vfnet.engine import Trainer, check_run
from vfnet.predictor import build_predictor, class_names

from .tiny import GivenBatches, picture, train_on
from .tiny_libra import libra_config

BATCHES = [[picture(seed), picture(seed + 10)] for seed in (1, 2, 3)]
QUICK = ("SOLVER.WARMUP_ITERS", "0", "SEED", "1")


def weights_of(folder, name="model_final.pth"):
    return torch.load(folder / name, weights_only=True)["model"]


def continued(folder, *overrides):
    class Given(GivenBatches):
        batches = BATCHES

    trainer = Given(libra_config(folder, "SOLVER.MAX_ITER", "3", *QUICK, *overrides))
    trainer.resume_or_load(resume=True)
    trainer.train()
    return trainer


def test_a_continued_run_is_the_uninterrupted_one_bit_for_bit(tmp_path):
    train_on(libra_config(tmp_path / "whole", *QUICK), *BATCHES)
    train_on(libra_config(tmp_path / "parts", *QUICK), *BATCHES[:2])
    before = weights_of(tmp_path / "parts")
    continued(tmp_path / "parts")
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
    assert whole["roi_heads.floor_at_zero"]
    # All that is not frozen has moved.
    moved = [n for n, value in before.items() if not torch.equal(value, whole[n])]
    assert {name.split(".")[0] for name in moved} == {
        "backbone",
        "proposal_generator",
        "roi_heads",
    }


def test_losses_and_samples_are_recorded(tmp_path):
    trainer = train_on(libra_config(tmp_path, *QUICK), *BATCHES)
    latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
    losses = ("loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc")
    assert latest["total_loss"] == pytest.approx(sum(latest[name] for name in losses), rel=1e-4)
    assert latest["roi_head/num_fg_samples"] + latest["roi_head/num_bg_samples"] == 32


def test_autocast_in_bfloat16_computes_the_losses_of_float32(tmp_path):
    amp = ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", "bfloat16")
    plain, mixed = (
        train_on(libra_config(tmp_path, *keys), BATCHES[0]).storage.latest()["total_loss"][0]
        for keys in ((), amp)
    )
    assert mixed == pytest.approx(plain, rel=0.03) and mixed != plain


@pytest.mark.parametrize("average", ["SWA", "EMA"])
def test_weights_are_averaged(tmp_path, average):
    name = average.lower()
    cycles = ("SOLVER.SWA.CYCLES", "3") if average == "SWA" else ("SOLVER.EMA.DECAY", "0.5")
    train_on(libra_config(tmp_path, *QUICK, f"SOLVER.{average}.ENABLED", "True", *cycles), *BATCHES)
    final, averaged = weights_of(tmp_path), weights_of(tmp_path, f"model_{name}.pth")
    assert averaged.keys() == final.keys()
    assert averaged["roi_heads.floor_at_zero"].dtype == torch.bool
    key = "roi_heads.box_predictor.cls_score.weight"
    assert not torch.equal(averaged[key], final[key])


def test_own_data_is_learnt_scored_and_predicted_with_its_names(tmp_path):
    boxes = [annotation(i, id_, 3, (20, 20, 40, 40)) for i, id_ in enumerate(IMAGE_IDS, 1)]
    file = write_coco(tmp_path / "data", boxes)
    own = str([["own", str(file), str(file.parent)]])
    folder = tmp_path / "run"
    cfg = libra_config(
        *(folder, "DATASETS.COCO_FORMAT", own, "DATASETS.TRAIN", "('own',)"),
        *("DATASETS.TEST", "('own',)", "SOLVER.MAX_ITER", "2", *QUICK),
        *("MODEL.ROI_HEADS.NUM_CLASSES", "80", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
    )
    register_coco_format(cfg)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3
    assert cfg.MODEL.ROI_HEADS.CLASS_NAMES == ["cell", "plate", "tray"]
    check_run(cfg, ["own"], "", training=True)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert {"AP", "AP50", "AP-cell"} <= set(Trainer.test(cfg, trainer.model)["bbox"])

    cfg.MODEL.WEIGHTS = str(folder / "model_final.pth")
    assert class_names(cfg) == ["cell", "plate", "tray"]
    found = build_predictor(cfg)(cv2.imread(str(file.parent / f"{IMAGE_IDS[0]}.png")))["instances"]
    assert len(found) > 0 and found.image_size == (96, 128)
