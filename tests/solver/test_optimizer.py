"""Which learning rate and decay a parameter gets, and how gradients are clipped."""

import pytest
import torch
from torch import nn

from vfnet import get_cfg
from vfnet.errors import UserError
from vfnet.solver import build_optimizer, check_continuable, parameter_groups, solver_values


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


class Block(nn.Module):
    """The kinds of parameters a VFNet has, under the names that decide about them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.bn = nn.BatchNorm2d(2)
        self.conv2_offset = nn.Conv2d(2, 27, 1)
        self.tower = nn.ModuleDict(
            {"offset": nn.Conv2d(2, 27, 1), "norm": nn.GroupNorm(1, 2), "shared": self.conv}
        )
        self.scales = nn.ModuleList([Scale()])
        self.frozen = nn.Conv2d(2, 2, 1).requires_grad_(False)


def settings(cfg, model):
    """The learning rate and the decay of each parameter by its name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = build_optimizer(cfg, model).param_groups
    return {names[p]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}


def base_config():
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR = 0.01
    cfg.SOLVER.BIAS_LR_FACTOR = 2.0
    cfg.SOLVER.WEIGHT_DECAY = 1e-4
    cfg.SOLVER.WEIGHT_DECAY_NORM = 3e-5
    cfg.SOLVER.WEIGHT_DECAY_BIAS = 0.0
    return cfg


def test_each_parameter_gets_what_its_kind_says():
    plain, norm, bias = (0.01, 1e-4), (0.01, 3e-5), (0.02, 0.0)
    assert settings(base_config(), Block()) == {
        "conv.weight": plain,
        "conv.bias": bias,
        "bn.weight": norm,
        "bn.bias": norm,
        "conv2_offset.weight": plain,
        "conv2_offset.bias": plain,
        "tower.offset.weight": plain,
        "tower.offset.bias": plain,
        "tower.norm.weight": norm,
        "tower.norm.bias": norm,
        "scales.0.scale": plain,
    }


def test_each_trainable_parameter_is_stepped_once():
    model = Block()
    stepped = [p for g in build_optimizer(base_config(), model).param_groups for p in g["params"]]
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert len(stepped) == len(set(stepped)) == len(trainable)
    assert set(stepped) == set(trainable)


def test_a_decay_of_none_is_the_general_one():
    cfg = base_config()
    cfg.SOLVER.WEIGHT_DECAY_BIAS = None
    assert settings(cfg, Block())["conv.bias"] == (0.02, 1e-4)


def test_kinds_that_do_not_occur_make_no_group():
    assert len(parameter_groups(nn.Conv2d(1, 1, 1, bias=False), lr=1.0, weight_decay=0.0)) == 1


def two_weights(cfg):
    """A model whose weights 0 and 0 have the gradients 3 and 4; its optimizer, rate 1."""
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.MOMENTUM = 1.0, 0.0, 0.0
    model = nn.ParameterDict({"a": torch.zeros(1), "b": torch.zeros(1)})
    optimizer = build_optimizer(cfg, model)
    (3 * model["a"] + 4 * model["b"]).sum().backward()
    return model, optimizer


@pytest.mark.parametrize(
    "clip_type, expected",
    # Norm of both together is 5: 3/5 and 4/5. One by one each becomes 1. By value likewise.
    [("full_model", [-0.6, -0.8]), ("norm", [-1.0, -1.0]), ("value", [-1.0, -1.0])],
)
def test_clipping(clip_type, expected):
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = clip_type
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 1.0
    model, optimizer = two_weights(cfg)
    optimizer.step()
    stepped = [model["a"].item(), model["b"].item()]
    assert stepped == pytest.approx(expected, abs=1e-5)


def test_full_model_clipping_sees_unscaled_gradients():
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "full_model"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 10.0
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.MOMENTUM = 1.0, 0.0, 0.0
    model = nn.ParameterDict({"a": torch.zeros(1), "b": torch.zeros(1)})
    optimizer = build_optimizer(cfg, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((3 * model["a"] + 4 * model["b"]).sum()).backward()
    scaler.step(optimizer)
    # The norm is 5, below 10: nothing is clipped. Scaled it would be 5120.
    assert [model["a"].item(), model["b"].item()] == pytest.approx([-3.0, -4.0])


def test_unknown_clipping_is_refused():
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "all"
    with pytest.raises(UserError, match="full_model.*'all'"):
        build_optimizer(cfg, nn.Conv2d(1, 1, 1))


def test_adamw_has_momentum_for_its_first_beta():
    cfg = base_config()
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.MOMENTUM = "AdamW", 0.8
    optimizer = build_optimizer(cfg, Block())
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.999)}
    assert settings(cfg, Block()) == settings(base_config(), Block())
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    names = [group["name"] for group in optimizer.param_groups]
    values = solver_values(names, optimizer.param_groups)
    expected = {"MOMENTUM": 0.8, "BASE_LR": 0.01, "BIAS_LR_FACTOR": 2.0, "WEIGHT_DECAY_NORM": 3e-5}
    assert {f"SOLVER.{key}": value for key, value in expected.items()}.items() <= values.items()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("OPTIMIZER", "Adam", "OPTIMIZER must be 'SGD' or 'AdamW', got 'Adam'"),
        ("LAYER_DECAY", 0.9, "LAYER_DECAY 0.9 needs a backbone of timm"),
        ("LAYER_DECAY", 1.1, "LAYER_DECAY must be above 0 and at most 1, got 1.1"),
        ("LAYER_DECAY", 0.0, "LAYER_DECAY must be above 0 and at most 1, got 0.0"),
    ],
)
def test_what_cannot_be_built_is_an_error(key, value, message):
    cfg = base_config()
    cfg.SOLVER[key] = value
    with pytest.raises(UserError, match=message):
        build_optimizer(cfg, Block())


def test_nesterov_is_sgds():
    cfg = base_config()
    cfg.SOLVER.OPTIMIZER, cfg.SOLVER.NESTEROV = "AdamW", True
    with pytest.raises(UserError, match="NESTEROV True is for SOLVER.OPTIMIZER SGD"):
        build_optimizer(cfg, Block())


def test_a_run_goes_on_with_the_optimizer_that_it_began_with():
    cfg = base_config()
    stored = build_optimizer(cfg, Block()).state_dict()
    check_continuable(build_optimizer(cfg, Block()), stored)
    cfg.SOLVER.OPTIMIZER = "AdamW"
    for optimizer in (
        build_optimizer(cfg, Block()),
        build_optimizer(base_config(), nn.Linear(1, 1)),
    ):
        with pytest.raises(UserError, match="not the one of this config"):
            check_continuable(optimizer, stored)
