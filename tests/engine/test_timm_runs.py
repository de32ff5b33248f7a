"""Detectors on backbones of timm in what a run does: rates of layers, going on, averages, views."""

import cv2
import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from tests.engine.test_detector_runs import continued, weights_of
from tests.engine.tiny import picture, tiny_config, train_on
from tests.extras import needs
from tests.modeling.backbone.timm_models import with_timm
from vfnet.engine import check_run
from vfnet.errors import UserError
from vfnet.solver import build_optimizer

pytestmark = needs("timm")

BATCHES = [[picture(seed), picture(seed + 10)] for seed in (1, 2, 3)]
ADAMW = (
    *("SOLVER.OPTIMIZER", "AdamW", "SOLVER.BASE_LR", 0.001, "SOLVER.WARMUP_ITERS", 0),
    *("SOLVER.LAYER_DECAY", 0.5, "MODEL.TIMM.DROP_PATH_RATE", 0.3, "MODEL.TIMM.NORM", "LN"),
    *("SEED", 1, "SOLVER.EMA.ENABLED", True, "SOLVER.EMA.DECAY", 0.5),
)


def config(folder, name="convnext", *more):
    return with_timm(tiny_config(folder), name, *ADAMW, *more)


def settings(cfg):
    """Rate and decay by the parameter's name, within the backbone's model or the detector."""
    model = build_model(cfg)
    names = {p: n.removeprefix("backbone.bottom_up.model.") for n, p in model.named_parameters()}
    groups = build_optimizer(cfg, model).param_groups
    assert sum(len(group["params"]) for group in groups) == len(names)
    assert len({group["name"] for group in groups}) == len(groups)
    return {names[p]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}


def test_rates_and_decays_of_layers():
    cfg = config("")
    solver = cfg.SOLVER
    solver.BASE_LR, solver.BIAS_LR_FACTOR = 1.0, 3.0
    solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_NORM, solver.WEIGHT_DECAY_BIAS = 0.05, 0.01, 0.0
    found = settings(cfg)
    # Stem, and blocks of stages 0 to 3 (1, 1, 2, 1): n = 6. A step between stages is the next
    # stage's first block's.
    expected = {
        "head.cls_pred.weight": (1.0, 0.05),
        "head.cls_pred.bias": (3.0, 0.0),
        "backbone.fpn_lateral3.weight": (1.0, 0.05),
        "backbone.bottom_up.norms.res3.weight": (1.0, 0.01),
        "stem.0.weight": (2**-6, 0.05),
        "stem.1.bias": (2**-6, 0.01),
        "stages.0.blocks.0.conv_dw.weight": (2**-5, 0.05),
        "stages.0.blocks.0.conv_dw.bias": (3 * 2**-5, 0.0),
        "stages.0.blocks.0.gamma": (2**-5, 0.01),  # a vector: not decayed as weights are
        "stages.1.downsample.1.weight": (2**-4, 0.05),
        "stages.2.blocks.1.mlp.fc1.weight": (2**-2, 0.05),
        "stages.3.blocks.0.norm.weight": (2**-1, 0.01),
    }
    assert {name: found[name] for name in expected} == expected


def test_tables_of_positions_do_not_decay():
    found = settings(config("", "swin", "SOLVER.LAYER_DECAY", 1.0, "SOLVER.WEIGHT_DECAY", 0.05))
    decays = {n: decay for n, (_, decay) in found.items() if "relative_position" in n}
    assert len(decays) == 5 and set(decays.values()) == {1e-4}  # WEIGHT_DECAY_NORM
    assert {rate for n, (rate, _) in found.items() if not n.endswith("bias")} == {0.001}


@pytest.mark.parametrize("name", ["convnext", "swin"])
def test_a_continued_run_is_the_uninterrupted_one_bit_for_bit(name, tmp_path):
    train_on(config(tmp_path / "whole", name), *BATCHES)
    train_on(config(tmp_path / "parts", name), *BATCHES[:2])
    before = weights_of(tmp_path / "parts")
    continued(config(tmp_path / "parts", name, "SOLVER.MAX_ITER", 3))
    for file in ("model_final.pth", "model_ema.pth"):
        whole, parts = (weights_of(tmp_path / run, file) for run in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(parts[name], value) for name, value in whole.items())
    moved = {
        n
        for n, value in before.items()
        if not torch.equal(value, weights_of(tmp_path / "whole")[n])
    }
    assert moved >= {n for n in before if ".bottom_up." in n and n.endswith(".weight")}


def test_other_layer_decays_and_optimizers_on_resume(tmp_path, caplog):
    train_on(config(tmp_path), *BATCHES[:1])
    continued(config(tmp_path, "convnext", "SOLVER.LAYER_DECAY", 0.25, "SOLVER.MAX_ITER", 2))
    assert "SOLVER.LAYER_DECAY is 0.25 in the config, but --resume goes on with" in caplog.text
    for key, value in (("LAYER_DECAY", 1.0), ("OPTIMIZER", "SGD")):
        with pytest.raises(UserError, match="not the one of this config"):
            continued(config(tmp_path, "convnext", f"SOLVER.{key}", value, "SOLVER.MAX_ITER", 3))


def test_bfloat16_checks_views_and_detectron2s_predictor(tmp_path):
    amp = ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", "bfloat16")
    views = ("TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (64, 96), "TEST.AUG.MAX_SIZE", 128)
    cfg = config(tmp_path, "swin", *amp, *views, "MODEL.VFNET.SCORE_THRESH_TEST", 0.0)
    check_run(cfg, [], "", training=True)
    train_on(cfg, *BATCHES[:1])
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    check_run(cfg, [], cfg.MODEL.WEIGHTS, training=False)
    image = cv2.resize(BATCHES[0][0]["image"].byte().permute(1, 2, 0).numpy(), (101, 67))
    found = DefaultPredictor(cfg)(image)["instances"]
    assert len(found) > 0 and found.pred_boxes.tensor.isfinite().all()
