"""SGD or AdamW, over the kinds of parameters that the reference implementation distinguishes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers.batch_norm import LayerNorm
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from ..errors import UserError
from ..modeling.backbone.timm_backbone import TimmBackbone

# torch's base class of all batch and instance norms, and the three that it leaves out.
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, LayerNorm)
_DECAYS = {
    "other": "SOLVER.WEIGHT_DECAY",
    "norm": "SOLVER.WEIGHT_DECAY_NORM",
    "bias": "SOLVER.WEIGHT_DECAY_BIAS",
}


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build SOLVER.OPTIMIZER over `parameter_groups`, clipped as SOLVER.CLIP_GRADIENTS says.

    CLIP_TYPE "value" and "norm" are Detectron2's, parameter by parameter. "full_model" clips the
    norm of all gradients together.

    Raises:
        UserError: OPTIMIZER or CLIP_TYPE is none of these, or LAYER_DECAY has no layers.
    """
    solver = cfg.SOLVER
    groups = parameter_groups(
        model,
        lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        layer_decay=solver.LAYER_DECAY,
    )
    shared = {"lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY, "foreach": True}
    optimizer: torch.optim.Optimizer
    if solver.OPTIMIZER == "SGD":
        momentum, nesterov = solver.MOMENTUM, solver.NESTEROV
        optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, **shared)
    elif solver.OPTIMIZER == "AdamW":
        if solver.NESTEROV:
            raise UserError("SOLVER.NESTEROV True is for SOLVER.OPTIMIZER SGD, got AdamW")
        optimizer = torch.optim.AdamW(groups, betas=(solver.MOMENTUM, 0.999), **shared)
    else:
        raise UserError(f"SOLVER.OPTIMIZER must be 'SGD' or 'AdamW', got {solver.OPTIMIZER!r}")
    return _add_clipping(cfg, optimizer)


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    weight_decay_norm: float | None = None,
    weight_decay_bias: float | None = None,
    bias_lr_factor: float = 1.0,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Sort the trainable parameters into groups, each parameter once.

    As mmcv's optimizer constructor does with `bias_lr_mult` and `bias_decay_mult`; their names:

    1. "other", everything that is not below: `lr`, `weight_decay`. The biases of the offset
       branches of deformable convolutions belong here;
    2. "norm", weight and bias of normalisation layers, and of a backbone of timm whatever its
       recipes do not let decay: `lr`, `weight_decay_norm`;
    3. "bias", the other parameters named `bias`: `lr * bias_lr_factor`, `weight_decay_bias`
       (2.0 and 0.0 in configs/Base-VFNet.yaml).

    A decay of None is `weight_decay`. The order is the model's own; empty groups are left out.

    With a `layer_decay` below 1, a layer i of the n of a backbone of timm has groups of its own,
    such as "norm/3", whose rates are those above times `layer_decay ** (n - i)`.

    Raises:
        UserError: `layer_decay` is not above 0 and up to 1, or there is no such backbone.
    """
    layers = _layers(model, layer_decay)
    undecayed = {p for m in model.modules() if isinstance(m, TimmBackbone) for p in m.undecayed()}
    members: dict[tuple[int, str], list[nn.Parameter]] = {}
    seen = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                kind = _kind(module_name, module, name)
                if kind == "other" and parameter in undecayed:
                    kind = "norm"
                members.setdefault((layers.get(parameter, -1), kind), []).append(parameter)

    def decay(value: float | None) -> float:
        return weight_decay if value is None else value

    kinds: dict[str, tuple[float, float]] = {
        "other": (lr, weight_decay),
        "norm": (lr, decay(weight_decay_norm)),
        "bias": (lr * bias_lr_factor, decay(weight_decay_bias)),
    }
    count = max(layers.values(), default=-1) + 1
    groups: list[dict[str, Any]] = []
    for layer in range(-1, count):  # -1: all that has no number
        factor = 1.0 if layer < 0 else layer_decay ** (count - layer)
        for kind, (rate, shrinking) in kinds.items():
            if parameters := members.get((layer, kind)):
                name = kind if layer < 0 else f"{kind}/{layer}"
                values = {"name": name, "lr": rate * factor, "weight_decay": shrinking}
                groups.append({**values, "params": parameters})
    return groups


def _layers(model: nn.Module, layer_decay: float) -> dict[nn.Parameter, int]:
    """The layer of each parameter that has a rate of its own."""
    if not 0 < layer_decay <= 1:
        raise UserError(f"SOLVER.LAYER_DECAY must be above 0 and at most 1, got {layer_decay}")
    if layer_decay == 1:
        return {}
    for module in model.modules():
        if isinstance(module, TimmBackbone):
            return module.layer_numbers()
    raise UserError(
        f"SOLVER.LAYER_DECAY {layer_decay} needs a backbone of timm, whose layers are numbered "
        "(MODEL.BACKBONE.NAME build_vfnet_timm_fpn_backbone); set it to 1.0"
    )


def solver_values(names: Sequence[str], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of those keys of SOLVER that parameter groups hold, by full key.

    Args:
        names: of the groups, as `parameter_groups` gives them; older checkpoints lack them.
        groups: of an optimizer that a schedule steps.
    """
    by_name = dict(zip(names, groups, strict=True))
    plain = {name: group for name, group in by_name.items() if name in _DECAYS}
    base = next(group for name, group in plain.items() if name != "bias")
    values = {
        "SOLVER.BASE_LR": base["initial_lr"],
        "SOLVER.MOMENTUM": base["betas"][0] if "betas" in base else base["momentum"],
    }
    if "nesterov" in base:
        values["SOLVER.NESTEROV"] = base["nesterov"]
    if "bias" in plain and base["initial_lr"]:
        # Rounded: a rate times a factor, divided by the rate, need not be the factor.
        factor = round(plain["bias"]["initial_lr"] / base["initial_lr"], 9)
        values["SOLVER.BIAS_LR_FACTOR"] = factor
    last, _, number = names[-1].partition("/")
    if number and last in plain and plain[last]["initial_lr"]:
        rates = by_name[names[-1]]["initial_lr"], plain[last]["initial_lr"]
        values["SOLVER.LAYER_DECAY"] = round(rates[0] / rates[1], 9)
    return values | {_DECAYS[name]: group["weight_decay"] for name, group in plain.items()}


def check_continuable(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Check that a stored state is that of such an optimizer, over as many parameters.

    Raises:
        UserError: another optimizer, or other groups, which torch would take or refuse later.
    """

    def kind(groups: Sequence[Mapping[str, Any]]) -> tuple[bool, list[int]]:
        return "betas" in groups[0], [len(group["params"]) for group in groups]

    if kind(state["param_groups"]) != kind(optimizer.param_groups):
        raise UserError(
            "the checkpoint's optimizer is not the one of this config: a run is continued with "
            "the SOLVER.OPTIMIZER, the SOLVER.LAYER_DECAY (1.0 or not) and the model that it began "
            "with, which config.yaml in its OUTPUT_DIR has; anything else takes a new run, with "
            "MODEL.WEIGHTS and an OUTPUT_DIR of its own"
        )


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
