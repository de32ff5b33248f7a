"""Every yaml loads, says only what differs from its base, and comes to the published numbers."""

from pathlib import Path

import pytest
import yaml
from detectron2.config import CfgNode

from vfnet import get_cfg

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ALL = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml"))
PUBLISHED = [name for name in ALL if not name.startswith(("demo/", "own_data"))]


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


def test_all_expected_configs_are_there():
    assert {
        "Base-VFNet.yaml",
        "vfnet_R50_1x.yaml",
        "vfnet_R50_ms_2x.yaml",
        "vfnet_R50_dcn_ms_2x.yaml",
        "vfnet_R101_1x.yaml",
        "ablation/vfnet_R50_1x_focal.yaml",
        "ablation/vfnet_R50_1x_quality_focal.yaml",
        "ablation/vfnet_R50_1x_unweighted.yaml",
        "ablation/vfnet_R50_1x_raw.yaml",
        "ablation/vfnet_R50_1x_raw_focal.yaml",
        "ablation/vfnet_R50_1x_star_only.yaml",
        "check/vfnet_R50_1x_mmdet.yaml",
        "demo/bccd_R18.yaml",
        "demo/shapes_R18.yaml",
        "own_data.yaml",
    } <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_loads_as_a_vfnet(name):
    assert load(name).MODEL.META_ARCHITECTURE == "VFNet"


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


@pytest.mark.parametrize("name", [name for name in ALL if name != "Base-VFNet.yaml"])
def test_a_child_holds_only_what_differs_from_its_base(name):
    base = load(base_of(name))
    repeated = [key for key, value in keys_of(name).items() if value_of(base, key) == value]
    # A model names its depth, though 50 is also Detectron2's default.
    assert [key for key in repeated if key != "MODEL.RESNETS.DEPTH"] == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_share_input_and_optimizer(name):
    cfg = load(name)
    assert cfg.INPUT.FORMAT == "RGB"
    assert cfg.MODEL.PIXEL_MEAN == [123.675, 116.28, 103.53]  # R, G, B
    assert cfg.MODEL.PIXEL_STD == [58.395, 57.12, 57.375]
    assert not cfg.MODEL.RESNETS.STRIDE_IN_1X1
    assert (cfg.MODEL.RESNETS.NORM, cfg.MODEL.BACKBONE.FREEZE_AT) == ("BN", 2)
    assert cfg.MODEL.VFNET.BACKBONE_NORM_EVAL
    assert cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (16, 0.01)
    assert (cfg.SOLVER.MOMENTUM, cfg.SOLVER.NESTEROV, cfg.SOLVER.GAMMA) == (0.9, False, 0.1)
    assert (cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM) == (1e-4, 1e-4)
    assert (cfg.SOLVER.BIAS_LR_FACTOR, cfg.SOLVER.WEIGHT_DECAY_BIAS) == (2.0, 0.0)
    assert (cfg.SOLVER.WARMUP_ITERS, cfg.SOLVER.WARMUP_FACTOR) == (500, 0.1)
    assert not cfg.SOLVER.CLIP_GRADIENTS.ENABLED
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (800, 1333)
    assert (cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP) == (1333, "horizontal")
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 100


EPOCH = 7330  # 117266 images with boxes, 16 an iteration


@pytest.mark.parametrize("name", PUBLISHED)
def test_schedule_is_1x_or_2x_of_coco_epochs(name):
    cfg = load(name)
    epochs = (24, 16, 22) if name.endswith("2x.yaml") else (12, 8, 11)
    solver = cfg.SOLVER
    assert (solver.MAX_ITER, *solver.STEPS) == tuple(epoch * EPOCH for epoch in epochs)
    assert solver.CHECKPOINT_PERIOD == cfg.TEST.EVAL_PERIOD == EPOCH


@pytest.mark.parametrize(
    "name, sizes, sampling",
    [
        ("vfnet_R50_1x.yaml", (800,), "choice"),
        ("vfnet_R101_1x.yaml", (800,), "choice"),
        ("vfnet_R50_ms_2x.yaml", (480, 960), "range"),
        ("vfnet_R50_dcn_ms_2x.yaml", (480, 960), "range"),
    ],
)
def test_training_sizes(name, sizes, sampling):
    cfg = load(name)
    assert (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING) == (sizes, sampling)


@pytest.mark.parametrize(
    "name, depth, stages, last_conv",
    [
        ("vfnet_R50_1x.yaml", 50, [False] * 4, False),
        ("vfnet_R101_1x.yaml", 101, [False] * 4, False),
        ("vfnet_R50_dcn_ms_2x.yaml", 50, [False, True, True, True], True),
    ],
)
def test_networks(name, depth, stages, last_conv):
    cfg = load(name)
    assert cfg.MODEL.RESNETS.DEPTH == depth
    assert {50: "torchvision/R-50.pkl", 101: "resnet101-63fe2227"}[depth] in cfg.MODEL.WEIGHTS
    assert cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE == stages
    assert cfg.MODEL.RESNETS.DEFORM_MODULATED == last_conv == cfg.MODEL.VFNET.DEFORM_LAST_CONV


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


def test_unweighted_differs_from_the_model_in_one_key():
    keys = keys_of("ablation/vfnet_R50_1x_unweighted.yaml")
    del keys["OUTPUT_DIR"]
    assert keys == {"MODEL.VFNET.VARIFOCAL_IOU_WEIGHTED": False}


def test_every_run_has_a_folder_of_its_own():
    runs = [name for name in ALL if not Path(name).name.startswith("Base-")]
    folders = [load(name).OUTPUT_DIR for name in runs]
    assert len(set(folders)) == len(runs)
    assert all(folder.startswith("./output/") for folder in folders)


def test_check_expects_the_published_ap_of_the_published_file():
    cfg = load("check/vfnet_R50_1x_mmdet.yaml")
    assert cfg.MODEL.WEIGHTS.startswith("mmdet://https://download.openmmlab.com/")
    assert cfg.MODEL.WEIGHTS.endswith("vfnet_r50_fpn_1x_coco_20201027-38db6f58.pth")
    assert cfg.TEST.EXPECTED_RESULTS == [["bbox", "AP", 41.6, 0.1]]
    assert (cfg.INPUT.RESIZE, cfg.DATASETS.TEST) == ("cv2", ("coco_2017_val",))


def test_bccd_recipe():
    cfg = load("demo/bccd_R18.yaml")
    resnets, solver = cfg.MODEL.RESNETS, cfg.SOLVER
    assert (resnets.DEPTH, resnets.STEM_OUT_CHANNELS, resnets.RES2_OUT_CHANNELS) == (18, 32, 32)
    assert (resnets.NORM, resnets.ZERO_INIT_RESIDUAL) == ("BN", True)
    assert (cfg.MODEL.BACKBONE.FREEZE_AT, cfg.MODEL.VFNET.BACKBONE_NORM_EVAL) == (0, False)
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
    paths = sorted((shared / "reference").glob("mini_*.yaml"))
    assert len(paths) == 6
    for path in paths:
        cfg = get_cfg()
        cfg.merge_from_file(str(path))
        assert cfg.MODEL.META_ARCHITECTURE == "VFNet"
        assert cfg.MODEL.VFNET.NUM_CLASSES == 5
