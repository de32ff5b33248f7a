"""SGD with the three kinds of parameters that the reference implementation distinguishes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers.batch_norm import LayerNorm
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from ..errors import UserError

# torch's base class of all batch and instance norms, and the three that it leaves out.
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, LayerNorm)
_DECAYS = {
    "other": "SOLVER.WEIGHT_DECAY",
    "norm": "SOLVER.WEIGHT_DECAY_NORM",
    "bias": "SOLVER.WEIGHT_DECAY_BIAS",
}


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build SGD over `parameter_groups`, clipped as SOLVER.CLIP_GRADIENTS says.

    CLIP_TYPE "value" and "norm" are Detectron2's, parameter by parameter. "full_model" clips the
    norm of all gradients together.

    Raises:
        UserError: CLIP_TYPE is none of these.
    """
    solver = cfg.SOLVER
    groups = parameter_groups(
        model,
        lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
    )
    optimizer = torch.optim.SGD(
        groups,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        weight_decay=solver.WEIGHT_DECAY,
        nesterov=solver.NESTEROV,
        foreach=True,
    )
    return _add_clipping(cfg, optimizer)


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    weight_decay_norm: float | None = None,
    weight_decay_bias: float | None = None,
    bias_lr_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """Sort the trainable parameters into at most three groups, each parameter once.

    As mmcv's optimizer constructor does with `bias_lr_mult` and `bias_decay_mult`; their names:

    1. "other", everything that is not below: `lr`, `weight_decay`. The biases of the offset
       branches of deformable convolutions belong here;
    2. "norm", weight and bias of normalisation layers: `lr`, `weight_decay_norm`;
    3. "bias", the other parameters named `bias`: `lr * bias_lr_factor`, `weight_decay_bias`
       (2.0 and 0.0 in configs/Base-VFNet.yaml).

    A decay of None is `weight_decay`. The order is the model's own; empty groups are left out.
    """
    kinds: dict[str, list[nn.Parameter]] = {"other": [], "norm": [], "bias": []}
    seen = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                kinds[_kind(module_name, module, name)].append(parameter)

    def decay(value: float | None) -> float:
        return weight_decay if value is None else value

    groups: list[dict[str, Any]] = [
        {"name": "other", "lr": lr, "weight_decay": weight_decay},
        {"name": "norm", "lr": lr, "weight_decay": decay(weight_decay_norm)},
        {"name": "bias", "lr": lr * bias_lr_factor, "weight_decay": decay(weight_decay_bias)},
    ]
    return [{**group, "params": kinds[group["name"]]} for group in groups if kinds[group["name"]]]


def solver_values(names: Sequence[str], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of those keys of SOLVER that parameter groups hold, by full key.

    Args:
        names: of the groups, as `parameter_groups` gives them; older checkpoints lack them.
        groups: of an SGD that a schedule steps.
    """
    by_name = dict(zip(names, groups, strict=True))
    base = next(group for name, group in by_name.items() if name != "bias")
    values = {
        "SOLVER.BASE_LR": base["initial_lr"],
        "SOLVER.MOMENTUM": base["momentum"],
        "SOLVER.NESTEROV": base["nesterov"],
    }
    if "bias" in by_name and base["initial_lr"]:
        # Rounded: a rate times a factor, divided by the rate, need not be the factor.
        factor = round(by_name["bias"]["initial_lr"] / base["initial_lr"], 9)
        values["SOLVER.BIAS_LR_FACTOR"] = factor
    return values | {_DECAYS[name]: group["weight_decay"] for name, group in by_name.items()}


def _kind(module_name: str, module: nn.Module, parameter_name: str) -> str:
    if isinstance(module, _NORMS):
        return "norm"
    # What predicts offsets is `conv2_offset` in Detectron2's blocks, and `offset` in ours.
    is_offset_branch = re.search(r"(^|[._])offset$", module_name)
    return "bias" if parameter_name == "bias" and not is_offset_branch else "other"


def _add_clipping(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    if not clipping.ENABLED or clipping.CLIP_TYPE in ("value", "norm"):
        return maybe_add_gradient_clipping(cfg, optimizer)
    if clipping.CLIP_TYPE != "full_model":
        raise UserError(
            "SOLVER.CLIP_GRADIENTS.CLIP_TYPE must be 'value', 'norm' or 'full_model', "
            f"got {clipping.CLIP_TYPE!r}"
        )

    def clip(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clipping.CLIP_VALUE, clipping.NORM_TYPE)

    # A hook of `step` sees the gradients after a GradScaler has unscaled them.
    optimizer.register_step_pre_hook(clip)
    return optimizer
