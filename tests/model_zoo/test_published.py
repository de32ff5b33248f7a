"""The numbers of the published models, and that configs and numbers belong together."""

import re
from pathlib import Path

import pytest

from vfnet import model_zoo
from vfnet.errors import UserError
from vfnet.model_zoo.published import all_rows, published_models, weights_url

EPOCH = 7330  # 117266 images with boxes, 16 an iteration
ROWS = {row.config: row for row in all_rows()}
MODELS = {model.config: model for model in published_models()}


def test_fifteen_models_have_published_weights():
    assert len(MODELS) == len(published_models()) == 15


@pytest.mark.parametrize("name", ROWS)
def test_training_sizes_are_the_configs(name):
    cfg = model_zoo.get_config(name)
    short = cfg.INPUT.MIN_SIZE_TRAIN
    longest = cfg.INPUT.MAX_SIZE_TRAIN_RANGE or (cfg.INPUT.MAX_SIZE_TRAIN,)
    if len(short) > 1:
        assert cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range"
    text = "x".join(
        str(size[0]) if len(size) == 1 else f"[{size[0]}:{size[1]}]" for size in (longest, short)
    )
    assert ROWS[name].train == text


@pytest.mark.parametrize("name", ROWS)
def test_epochs_are_the_configs(name):
    solver = model_zoo.get_config(name).SOLVER
    epochs, _, averaged = ROWS[name].epochs.partition(" + ")
    assert int(epochs) * EPOCH == solver.MAX_ITER
    assert solver.IMS_PER_BATCH == 16
    if averaged:  # the name counts them too, as in "59e"
        count, unit = averaged.split()
        assert unit == "SWA"
        assert int(epochs) + int(count) == int(re.search(r"_(\d+)e", name).group(1))


@pytest.mark.parametrize("name", MODELS)
def test_numbers_have_one_decimal_and_test_dev_is_a_little_easier(name):
    model = MODELS[name]
    for number in (model.ap_val, model.ap_test_dev, model.fps):
        assert re.fullmatch(r"\d+\.\d", number)
    assert 0 <= float(model.ap_test_dev) - float(model.ap_val) < 1


# Of the authors' page: AP on val2017, images per second on a V100.
AUTHORS_TABLE = {
    "vfnet_R50_1x": ("41.6", "19.4"),
    "vfnet_R50_ms_2x": ("44.5", "19.3"),
    "vfnet_R50_dcn_ms_2x": ("47.8", "16.3"),
    "vfnet_R101_1x": ("43.0", "15.5"),
    "vfnet_R101_2x": ("43.5", "15.6"),
    "vfnet_R101_ms_2x": ("46.2", "15.6"),
    "vfnet_R101_dcn_ms_2x": ("49.0", "12.6"),
    "vfnet_X101_32x4d_ms_2x": ("47.4", "13.1"),
    "vfnet_X101_32x4d_dcn_ms_2x": ("49.7", "10.1"),
    "vfnet_X101_64x4d_ms_2x": ("48.2", "9.2"),
    "vfnet_X101_64x4d_dcn_ms_2x": ("50.4", "6.7"),
    "vfnet_R2_101_ms_2x": ("49.2", "13.0"),
    "vfnet_R2_101_dcn_ms_2x": ("51.1", "10.3"),
    "vfnetx_R2_101_59e": ("53.4", "8.0"),
    "vfnetx_R2_101_59e_1200": ("54.5", "4.2"),
}


def test_ap_and_speed_are_those_of_the_authors():
    assert {name: (m.ap_val, m.fps) for name, m in MODELS.items()} == AUTHORS_TABLE


def test_rows_of_the_papers_tables_have_their_numbers():
    for row in ROWS.values():
        numbers = [row.ap_val, row.ap50_val, row.ap75_val]
        if {"2", "3"} & set(row.tables.split()):
            assert all(re.fullmatch(r"\d+\.\d", number) for number in numbers), row.config
            assert float(row.ap50_val) > float(row.ap75_val) > float(row.ap_val)


def test_the_defaults_of_varifocal_loss_have_the_numbers_of_the_whole_model():
    defaults, whole = ROWS["vfnet_R50_1x_gamma2.0_alpha0.75"], ROWS["vfnet_R50_1x"]
    for column in ("parameters", "train", "epochs", "ap_val", "ap50_val", "ap75_val"):
        assert getattr(defaults, column) == getattr(whole, column)


def test_what_is_not_there_is_an_error_of_detectron2s_kind_too():
    for name in ("vfnet_R49_1x", "vfnet_R101_2x"):
        with pytest.raises(RuntimeError):
            model_zoo.get_checkpoint_url(name)
    with pytest.raises(RuntimeError, match="available: .*vfnet_R50_1x.yaml"):
        model_zoo.get_config_file("vfnet_R49_1x")


# Of the paper's Table 4: AP on test-dev.
TABLE_4 = {
    "vfnet_R50_ms_2x": "44.8",
    "vfnet_R101_ms_2x": "46.7",
    "vfnet_X101_32x4d_ms_2x": "47.6",
    "vfnet_X101_64x4d_ms_2x": "48.5",
    "vfnet_R2_101_ms_2x": "49.3",
    "vfnet_R50_dcn_ms_2x": "48.0",
    "vfnet_R101_dcn_ms_2x": "49.2",
    "vfnet_X101_32x4d_dcn_ms_2x": "50.0",
    "vfnet_X101_64x4d_dcn_ms_2x": "50.8",
    "vfnet_R2_101_dcn_ms_2x": "51.3",
    "vfnetx_R2_101_59e": "53.7",
    "vfnetx_R2_101_59e_1200": "55.1",
}


def test_test_dev_numbers_are_those_of_the_papers_table_4():
    assert {name: MODELS[name].ap_test_dev for name in TABLE_4} == TABLE_4


def test_deformable_models_are_slower_and_better_than_their_plain_ones():
    for name, model in MODELS.items():
        if "_dcn_" in name:
            plain = MODELS[name.replace("_dcn_", "_")]
            assert float(model.fps) < float(plain.fps)
            assert float(model.ap_val) > float(plain.ap_val)


def test_eight_weights_have_a_url_of_their_own():
    urls = [model.weights for model in MODELS.values() if model.weights]
    assert len(set(urls)) == len(urls) == 8
    for url in urls:
        assert re.fullmatch(
            r"https://download\.openmmlab\.com/mmdetection/v2\.0/vfnet/(\w|-)+/(\w|-)+-[0-9a-f]{8}\.pth",
            url,
        )
        assert Path(url).name.startswith(Path(url).parent.name)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.weights])
def test_a_url_names_the_network_of_its_config(name):
    # mmdet's words for what ours are called.
    words = {"R50": "r50", "R101": "r101", "32x4d": "32x4d", "64x4d": "64x4d"}
    words.update(dcn="mdconv_c3-c5", ms="mstrain", **{"1x": "1x", "2x": "2x"})
    file = Path(weights_url(name)).name
    for ours, theirs in words.items():
        assert (ours in name.split("_")) == (theirs in file), (ours, file)


def test_a_name_is_taken_with_and_without_its_ending():
    assert weights_url("vfnet_R50_1x.yaml") == weights_url("vfnet_R50_1x")
    with pytest.raises(UserError, match="vfnet_R50_1x.pth.*available: vfnet_R50_1x,"):
        weights_url("vfnet_R50_1x.pth")
