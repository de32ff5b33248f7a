"""Made-up checkpoints, as mmdet writes them."""

import sys
import types

import pytest
import torch
from detectron2.modeling import build_model

from vfnet import get_cfg


class _Marker:
    """Unpickles by calling a function of the file's choice."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture
def calling():
    """Makes an object whose unpickling calls `function(*arguments)`."""
    return _Marker


@pytest.fixture
def small_state_dict():
    """Three weights of a VFNet under mmdet's names; one is a view of a larger storage."""
    torch.manual_seed(0)
    return {
        "backbone.conv1.weight": torch.randn(4, 3, 7, 7),
        "bbox_head.scales.0.scale": torch.tensor(1.5),
        "bbox_head.vfnet_reg.bias": torch.arange(8.0)[2:6],
        "backbone.bn1.num_batches_tracked": torch.tensor(7),
    }


@pytest.fixture
def save_training_checkpoint(small_state_dict, monkeypatch):
    """Writes what mmdet 3 writes while training; the foreign classes are gone when it returns."""

    def save(path, **options):
        module = types.ModuleType("mmengine_made_up")
        exec(_FOREIGN_CLASSES, module.__dict__)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "mmengine_made_up", module)
            torch.save(
                {
                    "meta": {
                        "epoch": 12,
                        "dataset_meta": {"CLASSES": ("cat", "dog"), "PALETTE": [(1, 2, 3)]},
                        "cfg": module.ConfigDict(model=module.ConfigDict(type="VFNet")),
                    },
                    "state_dict": small_state_dict,
                    "message_hub": module.MessageHub(),
                    "optimizer": {
                        "state": {0: {"momentum_buffer": torch.ones(2)}},
                        "param_groups": [{"lr": module.numpy.float64(0.01), "params": [0]}],
                    },
                    "seen": {1, 2},
                    "hash": b"\xff\x00",
                },
                path,
                **options,
            )

    return save


_FOREIGN_CLASSES = """
import numpy
from collections import OrderedDict, deque

class HistoryBuffer:
    def __init__(self):
        self._log_history = numpy.arange(3.0)
        self.statistics = {"mean": numpy.mean}
    def __setstate__(self, state):
        raise AssertionError("the file was executed")

class MessageHub:
    def __init__(self):
        self.log_scalars = OrderedDict(loss=HistoryBuffer())
        self.window = deque([1, 2])

class ConfigDict(dict):
    pass
"""
for _name in ("HistoryBuffer", "MessageHub", "ConfigDict"):
    _FOREIGN_CLASSES += f"\n{_name}.__module__ = 'mmengine_made_up'"


@pytest.fixture
def mini_config():
    """The config of reference/mini_r50.yaml: ResNet-50 of width 8, head of 64 channels."""
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            *("MODEL.META_ARCHITECTURE", "VFNet", "MODEL.DEVICE", "cpu", "INPUT.FORMAT", "RGB"),
            *("MODEL.BACKBONE.NAME", "build_vfnet_resnet_fpn_backbone"),
            *("MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"]),
            *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32),
            *("MODEL.RESNETS.WIDTH_PER_GROUP", 8, "MODEL.RESNETS.STRIDE_IN_1X1", False),
            *("MODEL.RESNETS.NORM", "BN", "MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"]),
            *("MODEL.FPN.OUT_CHANNELS", 64, "MODEL.VFNET.NUM_CLASSES", 5),
            *("MODEL.VFNET.CONV_CHANNELS", 64),
        ]
    )
    return cfg


@pytest.fixture
def make_model(mini_config):
    """Builds the model of `mini_config`, with other settings."""

    def make(*settings, seed=0):
        cfg = mini_config.clone()
        cfg.merge_from_list(list(settings))
        torch.manual_seed(seed)
        return build_model(cfg)

    return make
