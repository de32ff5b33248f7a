"""Every yaml loads, says only what differs from its base, and comes to the published numbers."""

import re
from pathlib import Path

import pytest
import yaml
from detectron2.config import CfgNode

from tests.config_files import (
    ALL,
    CONFIGS,
    CONFIGURED,
    MODELS,
    OVERRIDES,
    ROWS,
    detector_of,
    load,
    stem,
)
from vfnet import get_cfg
from vfnet.config import detector_node
from vfnet.engine import load_config
from vfnet.model_zoo.published import all_rows


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
