"""Every yaml loads, says only what differs from its base, and comes to the published numbers."""

import re
from pathlib import Path

import pytest
import yaml
from detectron2.config import CfgNode

from tests.config_files import ALL, CONFIGS, CONFIGURED, MODELS, OVERRIDES, ROWS, stem
from vfnet import get_cfg
from vfnet.config import detector_node
from vfnet.engine import load_config
from vfnet.model_zoo.published import all_rows

# Trained, or checked, as the authors train their VFNets.
PUBLISHED = [
    name
    for name in ALL
    if stem(name).startswith(("Base-VFNet", "vfnet")) and not name.startswith(("swa/", "tta/"))
]


def load(name: str) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / name))
    return cfg


def value_of(cfg: CfgNode, key: str) -> object:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def keys_of(name: str) -> dict:
    """Dotted keys that the file itself names, with their effective values."""
    cfg = load(name)

    def walk(node: dict, prefix: str) -> dict:
        keys = {}
        for key, child in node.items():
            if isinstance(child, dict):
                keys.update(walk(child, f"{prefix}{key}."))
            elif key != "_BASE_":
                keys[prefix + key] = value_of(cfg, prefix + key)
        return keys

    return walk(yaml.safe_load((CONFIGS / name).read_text()), "")


def base_of(name: str) -> str:
    """The config that the file builds on, or ""."""
    base = yaml.safe_load((CONFIGS / name).read_text()).get("_BASE_")
    if base is None:
        return ""
    return (CONFIGS / name).parent.joinpath(base).resolve().relative_to(CONFIGS).as_posix()


def test_every_model_has_one_row_and_every_row_a_model():
    names = [stem(name) for name in MODELS]
    unlisted, lost = sorted(set(names) - set(ROWS)), sorted(set(ROWS) - set(names))
    assert not unlisted, f"add to model_zoo/published_models.csv, see CONTRIBUTING.md: {unlisted}"
    assert not lost, f"published_models.csv has rows without a config, remove them: {lost}"
    assert len(all_rows()) == len(ROWS), "published_models.csv has two rows of one config"


def test_no_two_folders_have_a_config_of_the_same_name():
    names = [stem(name) for name in ALL]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"vfnet://NAME and published_models.csv know a config by its name: {twice}"


def test_the_configs_that_documents_name_are_there():
    assert {
        "Base-Dense.yaml",
        "Base-VFNet.yaml",
        "check/vfnet_R50_1x_mmdet.yaml",
        "demo/bccd_R18.yaml",
        "demo/shapes_R18.yaml",
        "override/range_640_800.yaml",
        "own_data.yaml",
    } <= set(ALL)


# By a word of the file's name; no word of these: VFNet.
DETECTORS = {
    "atss": "ATSS",
    "gfl": "GFL",
    "gflv2": "GFL",
    "retinanet": "QualityRetinaNet",
    "foveabox": "FoveaBox",
    "reppoints": "RepPoints",
    "rcnn": "GeneralizedRCNN",
}


def detector_of(name: str) -> str:
    words = re.split("[_-]", stem(name).lower())
    return next((DETECTORS[word] for word in words if word in DETECTORS), "VFNet")


@pytest.mark.parametrize("name", CONFIGURED)
def test_loads_as_the_detector_of_its_name(name):
    assert load(name).MODEL.META_ARCHITECTURE == detector_of(name)


def plain(value: object) -> object:
    """With lists for tuples: what yaml keeps of them."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    return [plain(child) for child in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", ALL)
def test_a_dumped_config_loads_as_the_same(name, tmp_path):
    cfg, again = load(name), get_cfg()
    dumped = tmp_path / "config.yaml"
    dumped.write_text(cfg.dump())
    again.merge_from_file(str(dumped))
    assert plain(again) == plain(cfg)


@pytest.mark.parametrize("name", ALL)
def test_no_key_stands_twice(name):
    # A yaml reader keeps the last one and says nothing.
    def walk(node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            for _, child in node.value:
                walk(child)

    walk(yaml.compose((CONFIGS / name).read_text()))


@pytest.mark.parametrize("name", [name for name in CONFIGURED if base_of(name)])
def test_a_child_holds_only_what_differs_from_its_base(name):
    base = load(base_of(name))
    repeated = [key for key, value in keys_of(name).items() if value_of(base, key) == value]
    # A model names its depth, though 50 is also Detectron2's default; a base its detector.
    allowed = {"MODEL.RESNETS.DEPTH"} if stem(base_of(name)).startswith("Base-") else set()
    allowed |= {"MODEL.META_ARCHITECTURE"} if name.startswith("Base-") else set()
    assert set(repeated) <= allowed


@pytest.mark.parametrize("name", OVERRIDES)
def test_an_override_has_no_base_that_would_win_as_well(name):
    assert base_of(name) == ""


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


@pytest.mark.parametrize(
    "name, loss, star, refine, box_weight",
    [
        ("ablation/vfnet_R50_1x_raw_focal.yaml", "focal", False, False, 2.0),
        ("ablation/vfnet_R50_1x_raw.yaml", "varifocal", False, False, 2.0),
        ("ablation/vfnet_R50_1x_star_only.yaml", "varifocal", True, False, 2.0),
        ("vfnet_R50_1x.yaml", "varifocal", True, True, 1.5),
        ("ablation/vfnet_R50_1x_focal.yaml", "focal", True, True, 1.5),
        ("ablation/vfnet_R50_1x_quality_focal.yaml", "quality_focal", True, True, 1.5),
    ],
)
def test_ablations(name, loss, star, refine, box_weight):
    vfnet = load(name).MODEL.VFNET
    assert (vfnet.CLS_LOSS, vfnet.STAR_FEATURES, vfnet.REFINE_BOX) == (loss, star, refine)
    assert vfnet.BOX_LOSS_WEIGHT == box_weight
    assert vfnet.VARIFOCAL_IOU_WEIGHTED


# gamma, alpha, positives weighted by their IoU; the file's name says what it sets.
TABLE_2 = {
    "ablation/vfnet_R50_1x_unweighted.yaml": (2.0, 0.75, False),
    **{
        name: (float(found[1]), float(found[2]), True)
        for name in MODELS
        if (found := re.search(r"_gamma([\d.]+)_alpha([\d.]+)\.yaml$", name))
    },
}


@pytest.mark.parametrize("name, expected", TABLE_2.items())
def test_the_rows_of_table_2_differ_in_the_loss_alone(name, expected):
    cfg, full = load(name), load("vfnet_R50_1x.yaml")
    vfnet = cfg.MODEL.VFNET
    found = (vfnet.VARIFOCAL_GAMMA, vfnet.VARIFOCAL_ALPHA, vfnet.VARIFOCAL_IOU_WEIGHTED)
    assert found == expected
    for key in ("VARIFOCAL_GAMMA", "VARIFOCAL_ALPHA", "VARIFOCAL_IOU_WEIGHTED"):
        vfnet[key] = full.MODEL.VFNET[key]
    cfg.OUTPUT_DIR = full.OUTPUT_DIR
    assert cfg == full


def test_table_2_is_what_varies_varifocal_loss():
    assert {stem(name) for name in TABLE_2} == {n for n, row in ROWS.items() if row.tables == "2"}


@pytest.mark.parametrize(
    "name", [name for name in MODELS if name.startswith("vfnet_") and "_ms_" in name]
)
def test_the_narrower_range_is_one_override_of_any_multi_scale_model(name, tmp_path):
    over = CONFIGS / "override" / "range_640_800.yaml"
    cfg = load_config(str(CONFIGS / name), override_files=[str(over)])
    expected = load(name)
    expected.INPUT.MIN_SIZE_TRAIN = (640, 800)
    assert cfg == expected
    # The same as a config of its own, with two bases.
    own = tmp_path / "own.yaml"
    own.write_text(f'_BASE_: ["{CONFIGS / name}", "{over}"]')
    assert load_config(str(own)) == expected


def test_every_run_has_a_folder_of_its_own():
    runs = [name for name in CONFIGURED if not Path(name).name.startswith("Base-")]
    folders = [load(name).OUTPUT_DIR for name in runs]
    assert len(set(folders)) == len(runs)
    assert all(folder.startswith("./output/") for folder in folders)


def test_check_expects_the_published_ap_of_the_published_file():
    cfg = load("check/vfnet_R50_1x_mmdet.yaml")
    assert cfg.MODEL.WEIGHTS == "vfnet://vfnet_R50_1x"
    assert cfg.TEST.EXPECTED_RESULTS == [["bbox", "AP", float(ROWS["vfnet_R50_1x"].ap_val), 0.1]]
    assert (cfg.INPUT.RESIZE, cfg.DATASETS.TEST) == ("cv2", ("coco_2017_val",))


def test_bccd_recipe():
    cfg = load("demo/bccd_R18.yaml")
    resnets, solver = cfg.MODEL.RESNETS, cfg.SOLVER
    assert (resnets.DEPTH, resnets.STEM_OUT_CHANNELS, resnets.RES2_OUT_CHANNELS) == (18, 32, 32)
    assert (resnets.NORM, resnets.ZERO_INIT_RESIDUAL) == ("BN", True)
    assert (cfg.MODEL.BACKBONE.FREEZE_AT, cfg.MODEL.RESNETS.NORM_EVAL) == (0, False)
    assert cfg.MODEL.WEIGHTS == ""
    assert cfg.MODEL.FPN.OUT_CHANNELS == cfg.MODEL.VFNET.CONV_CHANNELS == 64
    sizes = (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN)
    assert sizes == ((240,), 320)
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (240, 320)
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MOMENTUM) == (8, 0.01, 0.9)
    assert (solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_NORM) == (1e-4, 1e-4)
    assert (solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS) == (2.0, 0.0)
    clip = solver.CLIP_GRADIENTS
    assert (clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE) == (True, "full_model", 35.0)
    assert clip.NORM_TYPE == 2.0
    assert (solver.WARMUP_METHOD, solver.WARMUP_ITERS, solver.WARMUP_FACTOR) == ("linear", 100, 0.1)
    assert (solver.MAX_ITER, *solver.STEPS) == (24 * 37, 16 * 37, 22 * 37)
    assert cfg.TEST.EVAL_PERIOD == 8 * 37
    assert (cfg.INPUT.RANDOM_FLIP, cfg.INPUT.FORMAT) == ("horizontal", "RGB")
    assert cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and not solver.AMP.ENABLED
    assert [name for name, _, _ in cfg.DATASETS.COCO_FORMAT] == ["bccd_train", "bccd_val"]
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("bccd_train",), ("bccd_val",))


@pytest.mark.parametrize("name", ["own_data.yaml", "demo/shapes_R18.yaml"])
def test_own_data_and_shapes_keep_images_without_boxes(name):
    assert not load(name).DATALOADER.FILTER_EMPTY_ANNOTATIONS


def test_own_data_follows_the_linear_rule():
    cfg = load("own_data.yaml")
    assert cfg.SOLVER.BASE_LR / cfg.SOLVER.IMS_PER_BATCH == pytest.approx(0.01 / 16)
    names = {name for name, _, _ in cfg.DATASETS.COCO_FORMAT}
    assert names == {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST}


def test_an_unknown_key_is_refused(tmp_path):
    path = tmp_path / "typo.yaml"
    path.write_text(f"_BASE_: {CONFIGS / 'Base-VFNet.yaml'}\nMODEL:\n  VFNET:\n    NUM_CLASES: 3\n")
    with pytest.raises(KeyError, match="NUM_CLASES"):
        get_cfg().merge_from_file(str(path))


def test_reference_configs_load(shared):
    paths = sorted((shared / "reference").rglob("mini_*.yaml"))
    assert len(paths) == 6 + 8
    for path in paths:
        cfg = get_cfg()
        cfg.merge_from_file(str(path))
        name = path.stem.replace("fovea", "foveabox")
        assert cfg.MODEL.META_ARCHITECTURE == detector_of(name)
        assert detector_node(cfg).NUM_CLASSES == 5
