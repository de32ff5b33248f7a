"""Input settings that do not fit the weights are named."""

import pytest

from vfnet import get_cfg
from vfnet.checkpoint import weights_mismatches

RGB = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "format": "RGB"}
MSRA = {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0], "format": "BGR"}
FAIR = {"mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395], "format": "BGR"}

ZOO = "detectron2://ImageNetPretrained"
FITTING = [
    (f"{ZOO}/torchvision/R-50.pkl", RGB, False),
    ("mmdet:///data/vfnet_r50.pth", RGB, False),
    ("mmdet:/data/vfnet_r50.pth", RGB, False),
    ("vfnet://vfnet_R50_1x", RGB, False),
    (f"{ZOO}/MSRA/R-101.pkl", MSRA, True),
    (f"{ZOO}/FAIR/X-101-32x8d.pkl", FAIR, False),
]


def config(weights, image, stride_in_1x1):
    cfg = get_cfg()
    cfg.MODEL.WEIGHTS = weights
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = image["mean"], image["std"]
    cfg.INPUT.FORMAT = image["format"]
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = stride_in_1x1
    return cfg


@pytest.mark.parametrize("weights, image, stride_in_1x1", FITTING)
def test_settings_that_fit_are_silent(weights, image, stride_in_1x1):
    assert weights_mismatches(config(weights, image, stride_in_1x1)) == []


@pytest.mark.parametrize("weights, image, stride_in_1x1", FITTING)
def test_another_stride_placement_is_the_only_complaint(weights, image, stride_in_1x1):
    (sentence,) = weights_mismatches(config(weights, image, not stride_in_1x1))
    assert f"MODEL.RESNETS.STRIDE_IN_1X1 is {not stride_in_1x1}" in sentence
    assert f"trained with {stride_in_1x1}" in sentence and weights in sentence


def test_each_setting_of_the_wrong_kind_has_its_sentence():
    sentences = weights_mismatches(config(f"{ZOO}/torchvision/R-50.pkl", MSRA, True))
    assert [sentence.split()[0] for sentence in sentences] == [
        "MODEL.PIXEL_MEAN",
        "MODEL.PIXEL_STD",
        "INPUT.FORMAT",
        "MODEL.RESNETS.STRIDE_IN_1X1",
    ]
    assert "[103.53, 116.28, 123.675]" in sentences[0]
    assert "[123.675, 116.28, 103.53]" in sentences[0]
    assert "INPUT.FORMAT is BGR" in sentences[2] and "RGB" in sentences[2]


def test_reversed_channels_alone_are_noticed():
    sentences = weights_mismatches(config(f"{ZOO}/MSRA/R-50.pkl", {**MSRA, "format": "RGB"}, True))
    assert [sentence.split()[0] for sentence in sentences] == ["INPUT.FORMAT"]


def test_rounding_is_no_mismatch():
    image = {**RGB, "mean": [123.68, 116.28, 103.53]}
    assert weights_mismatches(config("mmdet:x.pth", image, False)) == []


@pytest.mark.parametrize("weights", ["", "output/model_final.pth", "https://host/model.pth"])
def test_nothing_is_said_of_unknown_weights(weights):
    assert weights_mismatches(config(weights, MSRA, True)) == []


def test_small_resnets_have_no_1x1_convolution_to_place_a_stride_in():
    cfg = config("mmdet:r18.pth", RGB, True)
    cfg.MODEL.RESNETS.DEPTH = 18
    assert weights_mismatches(cfg) == []
