"""The numbers of the published models, and that configs and numbers belong together."""

import re
from pathlib import Path

import pytest

from vfnet import model_zoo
from vfnet.errors import UserError
from vfnet.model_zoo.published import all_rows, published_models, weights_url

EPOCH = 7330  # 117266 images with boxes, 16 an iteration
ROWS = {row.config: row for row in all_rows()}
PUBLISHED = {model.config: model for model in published_models()}
MODELS = {name: model for name, model in PUBLISHED.items() if name.startswith("vfnet")}
AUTHORS = "https://github.com/hyz-xmaster/VarifocalNet"
OF_GFLV2 = "https://github.com/implus/GFocalV2"
MMDET = "https://github.com/open-mmlab/mmdetection/tree/main/configs/"


def test_fifteen_vfnets_have_published_weights():
    assert len(PUBLISHED) == len(published_models())
    assert len(MODELS) == 15


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_page_is_that_of_who_published_the_weights(name):
    page, weights = PUBLISHED[name].page, PUBLISHED[name].weights
    if name.startswith("vfnet") or name.endswith("_varifocal"):
        assert page == AUTHORS
        assert name.startswith("vfnet") or not weights
    elif name.startswith("gflv2"):
        assert (page, weights) == (OF_GFLV2, "")
    else:
        folder = page.removeprefix(MMDET)
        assert weights.startswith(f"https://download.openmmlab.com/mmdetection/v2.0/{folder}/")


@pytest.mark.parametrize("name", ROWS)
def test_training_sizes_are_the_configs(name):
    cfg = model_zoo.get_config(name)
    short = cfg.INPUT.MIN_SIZE_TRAIN
    longest = cfg.INPUT.MAX_SIZE_TRAIN_RANGE or (cfg.INPUT.MAX_SIZE_TRAIN,)
    texts = [
        str(size[0]) if len(size) == 1 else f"[{size[0]}:{size[1]}]" for size in (longest, short)
    ]
    if len(short) > 1 and cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "choice":
        texts[1] = f"{{{','.join(map(str, short))}}}"
    assert ROWS[name].train == "x".join(texts)


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


# Of mmdet's metafiles: AP on val2017, and milliseconds an image on a V100.
MMDETS_TABLE = {
    "atss_R50_1x": ("39.4", 50.76),
    "atss_R101_1x": ("41.5", 81.3),
    "gfl_R50_1x": ("40.2", 51.28),
    "gfl_R50_ms_2x": ("42.9", 51.28),
    "gfl_R101_ms_2x": ("44.7", 68.03),
    "gfl_R101_dcn_ms_2x": ("47.1", 77.52),
    "gfl_X101_32x4d_ms_2x": ("45.9", 82.64),
    "gfl_X101_32x4d_dcn_ms_2x": ("48.1", 93.46),
    "retinanet_R50_1x": ("36.5", 52.63),
    "retinanet_R50_2x": ("37.4", None),
    "retinanet_R50_ms_3x": ("39.5", None),
    "retinanet_R101_1x": ("38.5", 66.67),
    "retinanet_R101_2x": ("38.9", 66.67),
    "retinanet_R101_ms_3x": ("41.0", None),
    "retinanet_X101_32x4d_1x": ("39.9", 82.64),
    "retinanet_X101_32x4d_2x": ("40.1", 82.64),
    "retinanet_X101_64x4d_1x": ("41.0", 114.94),
    "retinanet_X101_64x4d_2x": ("40.8", 114.94),
    "retinanet_X101_64x4d_ms_3x": ("41.6", None),
    "foveabox_R50_1x": ("36.5", 41.49),
    "foveabox_R50_2x": ("37.2", 41.49),
    "foveabox_R50_align_2x": ("37.9", 51.55),
    "foveabox_R50_align_ms_2x": ("40.4", 54.64),
    "foveabox_R101_1x": ("38.6", 57.47),
    "foveabox_R101_2x": ("40.0", None),
    "foveabox_R101_align_2x": ("40.0", 68.03),
    "foveabox_R101_align_ms_2x": ("42.0", 68.03),
    "reppoints_R50_1x": ("37.0", 54.05),
    "reppoints_R50_gn_1x": ("38.1", 57.14),
    "reppoints_R50_gn_2x": ("38.6", 57.14),
    "reppoints_R101_gn_2x": ("40.5", 72.99),
    "reppoints_R101_dcn_gn_2x": ("42.9", 82.64),
    "reppoints_X101_dcn_gn_2x": ("44.2", 107.53),
    "libra_retinanet_R50_1x": ("37.6", 56.5),
    "libra_faster_rcnn_R50_1x": ("38.3", 52.63),
    "libra_faster_rcnn_R101_1x": ("40.1", 69.44),
    "libra_faster_rcnn_X101_64x4d_1x": ("42.7", 117.65),
}


def test_ap_and_speed_of_the_others_are_those_of_mmdet():
    rows = {name: row for name, row in PUBLISHED.items() if row.page.startswith(MMDET)}
    assert {name: (row.ap_val, row.fps) for name, row in rows.items()} == {
        name: (ap, f"{1000 / time:.1f}" if time else "")
        for name, (ap, time) in MMDETS_TABLE.items()
    }


def test_ap_of_gflv2_is_that_of_its_authors():
    # On val2017 and on test-dev.
    assert {n: (r.ap_val, r.ap_test_dev) for n, r in ROWS.items() if n.startswith("gflv2")} == {
        "gflv2_R50_1x": ("41.0", "41.1"),
        "gflv2_R50_ms_2x": ("43.9", "44.4"),
        "gflv2_R101_ms_2x": ("45.8", "46.0"),
        "gflv2_R101_dcn_ms_2x": ("48.0", "48.2"),
        "gflv2_X101_32x4d_dcn_ms_2x": ("48.8", "49.0"),
        "gflv2_R2_101_dcn_ms_2x": ("49.9", "50.5"),
    }


# Of the paper's Table 5: focal, quality focal and varifocal loss.
TABLE_5 = {
    "retinanet": ("36.5", "37.3", "37.4"),
    "foveabox": ("36.3", "36.9", "37.2"),
    "reppoints": ("38.3", "39.2", "39.7"),
    "atss": ("39.3", "39.8", "40.2"),
}


@pytest.mark.parametrize("detector", TABLE_5)
def test_three_losses_have_the_numbers_of_table_5(detector):
    names = [f"{detector}_R50_1x_{loss}" for loss in ("focal", "quality_focal", "varifocal")]
    assert tuple(ROWS[name].ap_val for name in names) == TABLE_5[detector]
    assert all(ROWS[name].tables == "5" and ROWS[name].change for name in names)


def test_vfnets_three_losses_have_the_numbers_of_table_5():
    names = ("vfnet_R50_1x_focal", "vfnet_R50_1x_quality_focal", "vfnet_R50_1x")
    assert [ROWS[name].ap_val for name in names] == ["40.0", "41.1", "41.6"]


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
    with pytest.raises(RuntimeError, match="did you mean vfnet_R50_1x.yaml or [^ ]* or [^ ]*$"):
        model_zoo.get_config_file("vfnet_R49_1x")
    with pytest.raises(RuntimeError, match="available: .*vfnet_R50_1x.yaml"):
        model_zoo.get_config_file("?")


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


def test_each_url_is_one_of_its_own_that_ends_in_a_hash():
    urls = [model.weights for model in PUBLISHED.values() if model.weights]
    assert len(set(urls)) == len(urls) == 8 + len(MMDETS_TABLE)
    for url in urls:
        assert re.fullmatch(
            r"https://download\.openmmlab\.com/mmdetection/v2\.0/\w+/(\w|-|%2B)+/(\w|-|%2B)+-[0-9a-f]{8}\.pth",
            url,
        )
        # The file is called as its folder; atss_r101 lacks the last word.
        assert Path(url).name.startswith(Path(url).parent.name.removesuffix("_coco"))


@pytest.mark.parametrize("name", [name for name, model in PUBLISHED.items() if model.weights])
def test_a_url_names_the_network_of_its_config(name):
    # mmdet's words for what ours are called.
    words = {"R50": "r50", "R101": "r101", "32x4d": "32x4d", "64x4d": "64x4d", "dcn": "dconv_c"}
    words.update(ms="mstrain", align="align", gn="gn-neck%2Bhead", libra="libra", atss="atss")
    words.update({schedule: f"_{schedule}_" for schedule in ("1x", "2x", "3x")})
    words.update({word: word for word in ("vfnet", "gfl", "retinanet", "reppoints")})
    words.update(foveabox="fovea", rcnn="faster_rcnn")
    # The rest of the path holds the folder's name, such as libra_rcnn.
    file = Path(weights_url(name)).name
    for ours, theirs in words.items():
        assert (ours in name.split("_")) == (theirs in file), (ours, file)


def test_a_name_is_taken_with_and_without_its_ending():
    assert weights_url("vfnet_R50_1x.yaml") == weights_url("vfnet_R50_1x")
    with pytest.raises(UserError, match="vfnet_R50_1x.pth.*available: vfnet_R50_1x,"):
        weights_url("vfnet_R50_1x.pth")
