"""Every published model is trained as published: batch, rates, schedule, sizes, losses."""

import re

import pytest

from tests.config_files import ALL, MODELS, ROWS, detector_of, load, stem
from vfnet.config import detector_node

# Trained, or checked, as the authors train their VFNets.
PUBLISHED = [
    name
    for name in ALL
    if stem(name).startswith(("Base-VFNet", "vfnet"))
    and not name.startswith(("swa/", "timm/", "tta/"))
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_share_input_and_optimizer(name):
    cfg = load(name)
    assert cfg.INPUT.FORMAT == "RGB"
    assert cfg.MODEL.PIXEL_MEAN == [123.675, 116.28, 103.53]  # R, G, B
    assert cfg.MODEL.PIXEL_STD == [58.395, 57.12, 57.375]
    assert not cfg.MODEL.RESNETS.STRIDE_IN_1X1
    assert (cfg.MODEL.RESNETS.NORM, cfg.MODEL.BACKBONE.FREEZE_AT) == ("BN", 2)
    assert cfg.MODEL.RESNETS.NORM_EVAL
    assert cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (16, 0.01)
    assert (cfg.SOLVER.MOMENTUM, cfg.SOLVER.NESTEROV, cfg.SOLVER.GAMMA) == (0.9, False, 0.1)
    assert (cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM) == (1e-4, 1e-4)
    assert (cfg.SOLVER.BIAS_LR_FACTOR, cfg.SOLVER.WEIGHT_DECAY_BIAS) == (2.0, 0.0)
    assert (cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.WARMUP_FACTOR) == (500, 0.1)
    assert not cfg.SOLVER.CLIP_GRADIENTS.ENABLED
    size = (1200, 1800) if name == "vfnetx_R2_101_59e_1200.yaml" else (800, 1333)
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == size
    assert (cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP) == (1333, "horizontal")
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 100


EPOCH = 7330  # 117266 images with boxes, 16 an iteration


# The other detectors, as mmdet and the authors of GFLv2 train them.
FAMILY = [name for name in MODELS if detector_of(name) != "VFNet"]
RCNNS = [name for name in MODELS if detector_of(name) == "GeneralizedRCNN"]
# Table 5's variants of these warm up as VFNet does.
VARIANTS = re.compile("ablation/(retinanet|foveabox|reppoints)_")


@pytest.mark.parametrize("name", FAMILY)
def test_the_family_is_trained_as_published(name):
    cfg = load(name)
    expected = load("vfnet_R50_1x.yaml")
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        assert cfg.MODEL[key] == expected.MODEL[key]
    for key in ("FORMAT", "MAX_SIZE_TRAIN", "MIN_SIZE_TEST", "MAX_SIZE_TEST", "RANDOM_FLIP"):
        assert cfg.INPUT[key] == expected.INPUT[key]
    solver = cfg.SOLVER
    rate = 0.02 if name in RCNNS else 0.01
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MOMENTUM) == (16, rate, 0.9)
    assert (solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_NORM) == (1e-4, 1e-4)
    assert (solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS) == (1.0, None)
    warm_up = (solver.WARMUP_METHOD, solver.WARMUP_ITERS, solver.WARMUP_FACTOR)
    assert warm_up == ("linear", 500, 0.1 if VARIANTS.match(name) else 0.001)
    assert solver.CLIP_GRADIENTS.ENABLED == (stem(name) == "foveabox_R50_align_2x")
    resnets = cfg.MODEL.RESNETS
    assert (resnets.NORM, resnets.NORM_EVAL, resnets.STRIDE_IN_1X1) == ("BN", True, False)
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 2
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 100


@pytest.mark.parametrize("name", [name for name in FAMILY if name not in RCNNS])
def test_the_pyramid_and_suppression_of_each_detector(name):
    cfg = load(name)
    node, fpn = detector_node(cfg), cfg.MODEL.FPN
    on_output = detector_of(name) in ("ATSS", "GFL")
    assert (fpn.P6_FROM, fpn.P7_RELU) == ("p5" if on_output else "res5", False)
    assert node.NMS_THRESH_TEST == (0.6 if on_output else 0.5)
    assert (node.SCORE_THRESH_TEST, node.TOPK_CANDIDATES_TEST) == (0.05, 1000)
    has_norm = "_gn_" in name or name.startswith("ablation/reppoints")
    assert fpn.NORM == fpn.P6_P7_NORM == ("GN" if has_norm else "")
    if detector_of(name) == "FoveaBox":
        assert (node.ALIGN, node.NORM) == ((True, "GN") if "_align_" in name else (False, ""))
    elif detector_of(name) != "QualityRetinaNet":
        assert node.NORM == ("GN" if on_output or has_norm else "")


def test_clipped_gradients_are_those_of_mmdet():
    clip = load("FoveaBox/foveabox_R50_align_2x.yaml").SOLVER.CLIP_GRADIENTS
    assert (clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE) == ("full_model", 35.0, 2.0)


def test_retinanets_losses_are_mmdets():
    plain = load("RetinaNet/retinanet_R50_1x.yaml").MODEL
    libra = load("Libra/libra_retinanet_R50_1x.yaml").MODEL
    for retinanet in (plain.RETINANET, libra.RETINANET):
        assert retinanet.LOSS_NORMALIZER == "positives"
        assert (retinanet.FOCAL_LOSS_ALPHA, retinanet.FOCAL_LOSS_GAMMA) == (0.25, 2.0)
        assert retinanet.IOU_THRESHOLDS == [0.4, 0.5]
    assert (plain.RETINANET.BBOX_REG_LOSS_TYPE, plain.RETINANET.SMOOTH_L1_LOSS_BETA) == (
        "smooth_l1",
        0.0,
    )
    assert libra.RETINANET.BBOX_REG_LOSS_TYPE == "balanced_l1"
    balanced = [libra.RETINANET[f"BALANCED_L1_{key}"] for key in ("ALPHA", "GAMMA", "BETA")]
    assert balanced == [0.5, 1.5, 0.11]
    assert (libra.BFP.REFINE_LEVEL, libra.BFP.REFINE) == (1, "non_local")
    for level, sizes in enumerate(plain.ANCHOR_GENERATOR.SIZES):
        assert sizes == pytest.approx([32 * 2 ** (level + k / 3) for k in range(3)], abs=1e-9)
    assert plain.ANCHOR_GENERATOR.ASPECT_RATIOS == [[0.5, 1.0, 2.0]]


@pytest.mark.parametrize("name", [name for name in MODELS if "gflv2" in name])
def test_gflv2_has_the_quality_predictor_of_its_paper(name):
    quality = load(name).MODEL.GFL.QUALITY_PREDICTOR
    assert (quality.ENABLED, quality.TOPK, quality.CHANNELS, quality.ADD_MEAN) == (
        True,
        4,
        64,
        True,
    )
    assert not load("GFL/gfl_R50_1x.yaml").MODEL.GFL.QUALITY_PREDICTOR.ENABLED


# Rows of Table 5 without VFNet's: the config that they vary.
TABLE_5 = {
    "retinanet": "RetinaNet/retinanet_R50_1x.yaml",
    "foveabox": "FoveaBox/foveabox_R50_1x.yaml",
    "reppoints": "RepPoints/reppoints_R50_gn_1x.yaml",
    "atss": "ATSS/atss_R50_1x.yaml",
}


@pytest.mark.parametrize("loss", ["focal", "quality_focal", "varifocal"])
@pytest.mark.parametrize("detector", TABLE_5)
def test_the_rows_of_table_5_differ_in_loss_and_warm_up_alone(detector, loss):
    cfg = load(f"ablation/{detector}_R50_1x_{loss}.yaml")
    assert cfg.TEST.EVAL_PERIOD == EPOCH
    node, plain = detector_node(cfg), load(TABLE_5[detector])
    assert node.CLS_LOSS == loss
    assert (node.VARIFOCAL_ALPHA, node.VARIFOCAL_GAMMA) == (0.75, 2.0)
    assert (node.VARIFOCAL_IOU_WEIGHTED, node.QUALITY_FOCAL_BETA) == (True, 2.0)
    assert node.CLS_LOSS_WEIGHT == 1.0
    node.CLS_LOSS = detector_node(plain).CLS_LOSS
    assert node.CLS_LOSS == "focal"
    cfg.SOLVER.WARMUP_FACTOR, cfg.OUTPUT_DIR = plain.SOLVER.WARMUP_FACTOR, plain.OUTPUT_DIR
    assert cfg == plain


def test_table_5_is_three_losses_in_five_detectors():
    rows = {name for name, row in ROWS.items() if "5" in row.tables.split()}
    assert len(rows) == 15
    assert {
        f"{d}_R50_1x_{n}" for d in TABLE_5 for n in ("focal", "quality_focal", "varifocal")
    } < rows


@pytest.mark.parametrize("name", [*PUBLISHED, *FAMILY])
def test_schedule_is_the_published_one_in_coco_epochs(name):
    epochs = (12, 8, 11)
    if name.endswith("_2x.yaml"):
        epochs = (24, 16, 22)
    elif name.endswith("_3x.yaml"):
        epochs = (36, 27, 33)
    elif name.startswith("vfnetx"):
        epochs = (41, 36, 40)  # and 18 of weight averaging
    cfg = load(name)
    solver = cfg.SOLVER
    assert (solver.MAX_ITER, *solver.STEPS) == tuple(epoch * EPOCH for epoch in epochs)
    assert solver.CHECKPOINT_PERIOD == cfg.TEST.EVAL_PERIOD == EPOCH
