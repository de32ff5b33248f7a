"""Any backbone of timm that has strides 8, 16 and 32, with this project's feature pyramid.

timm is an extra: it is imported where a backbone is built, never by `import vfnet`.
"""

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ...config import norms_are_fixed
from ...errors import UserError
from ...utils.extras import import_extra
from .fpn import STAGE_STRIDES, build_fpn, pyramid_inputs

# What lets models take pictures of any size that are otherwise made for one; each is known to some.
_ANY_SIZE: tuple[dict[str, bool], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True})


class TimmBackbone(Backbone):
    """Features of a model of timm, called as those of a ResNet: "res3" has stride 8.

    The model keeps timm's names; what only its later features or its classifier need is left out.
    """

    def __init__(
        self,
        name: str,
        out_features: list[str],
        *,
        kwargs: Mapping[str, Any] | None = None,
        in_channels: int = 3,
        norm: str = "",
        size_divisibility: int = 1,
        norm_eval: bool = True,
        freeze_at: int = 0,
    ):
        """
        Args:
            name: of the model, such as "convnext_tiny".
            out_features: names of `STAGE_STRIDES`, the finest first.
            kwargs: what else `timm.create_model` is given.
            in_channels: of the images.
            norm: of each feature, a name of `get_norm`; "" for none.
            size_divisibility: images are padded on the right and below to a multiple of it.
            norm_eval: batch norms keep their running statistics while it trains.
            freeze_at: stages that do not learn, the stem first, as timm groups parameters.

        Raises:
            UserError: there is no such model, it lacks a stride, or takes no image of any size.
        """
        super().__init__()
        self.name = name
        self.model = _create(name, {"in_chans": in_channels, **(kwargs or {})})
        places = _places(self.model, name, [STAGE_STRIDES[feature] for feature in out_features])
        info = [self.model.feature_info[place] for place in places]
        # Of the classifier and of what is pruned: a file of weights may have it.
        self.left_out = set(self.model.state_dict())
        self._places = self.model.prune_intermediate_layers(places, prune_norm=True)
        self.left_out -= set(self.model.state_dict())
        self._out_features = list(out_features)
        self._out_feature_strides = {n: STAGE_STRIDES[n] for n in out_features}
        self._out_feature_channels = {n: i["num_chs"] for n, i in zip(out_features, info)}
        layers = {n: get_norm(norm, c) for n, c in self._out_feature_channels.items() if norm}
        self.norms = nn.ModuleDict(layers)
        self._unit = size_divisibility
        self._norm_eval = norm_eval
        self._freeze(freeze_at)
        self._check(in_channels)
        self.train()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features by name, of images x (N, C, H, W), H and W multiples of the strides."""
        height, width = x.shape[-2:]
        down, right = -height % self._unit, -width % self._unit
        if down or right:
            x = F.pad(x, (0, right, 0, down))
        maps = self.model.forward_intermediates(
            x, indices=self._places, output_fmt="NCHW", intermediates_only=True
        )
        features = {}
        for (name, stride), feature in zip(self._out_feature_strides.items(), maps):
            if down or right:
                feature = feature[..., : -(-height // stride), : -(-width // stride)]
            features[name] = self.norms[name](feature) if self.norms else feature
        return features

    def train(self, mode: bool = True) -> "TimmBackbone":
        super().train(mode)
        for module in self.modules():
            frozen = module in self._frozen or (self._norm_eval and isinstance(module, _BatchNorm))
            if frozen:
                module.eval()
        return self

    def layer_numbers(self) -> dict[nn.Parameter, int]:
        """The layer of each of the model's parameters, from 0 at the stem, as timm counts them.

        Raises:
            UserError: timm does not say for this model.
        """
        return self._groups("SOLVER.LAYER_DECAY 1.0", coarse=False)

    def undecayed(self) -> set[nn.Parameter]:
        """What timm's recipes do not let decay: vectors, and what a model names, as positions."""
        named: set[str] = getattr(self.model, "no_weight_decay", set)()
        return {p for n, p in self.model.named_parameters() if p.ndim <= 1 or n in named}

    def _groups(self, otherwise: str, *, coarse: bool) -> dict[nn.Parameter, int]:
        if not hasattr(self.model, "group_matcher"):
            raise UserError(f"timm groups no parameters of {self.name}; set {otherwise}")
        matcher = self.model.group_matcher(coarse=coarse)
        group_parameters = import_extra("timm.models", "timm").group_parameters
        numbers = group_parameters(self.model, matcher, reverse=True)
        return {p: numbers[n] for n, p in self.model.named_parameters()}

    def _freeze(self, stages: int) -> None:
        frozen: set[nn.Parameter] = set()
        if stages > 0:
            groups = self._groups("MODEL.BACKBONE.FREEZE_AT 0", coarse=True)
            frozen = {parameter for parameter, group in groups.items() if group < stages}
        for parameter in frozen:
            parameter.requires_grad_(False)
        # Stochastic depth and statistics of norms rest where nothing learns.
        own = ((module, set(module.parameters())) for module in self.model.modules())
        whole = [module for module, parameters in own if parameters and parameters <= frozen]
        self._frozen = set(chain.from_iterable(module.modules() for module in whole))

    def _check(self, channels: int) -> None:
        """Let it look at an oblong picture, without memory.

        What it gives must be what `output_shape` says. What none of it comes from, as in HRNet
        without its finest level, does not learn: several processes would wait for its gradient.
        """
        unit = math.lcm(self._unit, *self._out_feature_strides.values())
        height, width = 3 * unit, 5 * unit
        parameters = {n: p.to("meta") for n, p in self.named_parameters() if p.requires_grad}
        fixed = {n: p.to("meta") for n, p in self.named_parameters() if not p.requires_grad}
        state = {**parameters, **fixed, **{n: b.to("meta") for n, b in self.named_buffers()}}
        self.eval()
        try:
            with torch.device("meta"), torch.enable_grad():
                image = torch.empty(1, channels, height, width)
                features = torch.func.functional_call(self, state, (image,))
            problem = ""
        except Exception as error:  # whatever a model's own checks and shapes come to
            features, problem = {}, " ".join(f"{type(error).__name__} {error}".split())
        for name, shape in self.output_shape().items():
            expected = (shape.channels, height // shape.stride, width // shape.stride)
            found = tuple(features[name].shape[1:]) if features else problem
            if found != expected:
                raise UserError(
                    f"timm's {self.name} cannot be a pyramid's backbone for pictures of any size: "
                    f"of {height} x {width} pixels {name} must be {expected}, got {found}. Where "
                    "windows have to fit, set MODEL.TIMM.SIZE_DIVISIBILITY to their side times 32; "
                    "else name another model"
                )
        total = torch.stack([feature.sum() for feature in features.values()]).sum()
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients):
            if gradient is None:
                self.get_parameter(name).requires_grad_(False)


def pixel_statistics(name: str) -> tuple[list[float], list[float]] | None:
    """Mean and deviation of red, green and blue, 0 to 255, that timm trained a model with.

    None where there is no such model, or no timm.
    """
    try:
        trained = import_extra("timm", "timm").get_pretrained_cfg(name)
    except (UserError, RuntimeError):
        return None
    if trained is None:
        return None
    mean, std = ([round(255 * x, 3) for x in values] for values in (trained.mean, trained.std))
    return mean, std


def _create(name: str, kwargs: dict[str, Any]) -> nn.Module:
    """A model of timm, without a classifier and its weights at random."""
    timm = import_extra("timm", "timm")
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), cutoff=0.5)
        raise UserError(
            f"MODEL.TIMM.NAME must be a model of timm {timm.__version__}, got {name!r}"
            + (f"; do you mean {' or '.join(near)}?" if near else "; timm.list_models() has all")
        )
    for more in (*_ANY_SIZE, {}):
        try:
            return timm.create_model(name, num_classes=0, **{**more, **kwargs})
        except RuntimeError as error:  # a tag that there is not
            raise UserError(f"MODEL.TIMM.NAME {name!r}: {error}") from error
        except Exception as error:  # whatever its arguments come to
            if not any(f"'{key}'" in str(error) for key in more):
                raise UserError(
                    f"timm cannot build {name} with MODEL.TIMM.KWARGS and DROP_PATH_RATE as "
                    f"configured, {kwargs}: {type(error).__name__} {error}"
                ) from error
    raise AssertionError("the last try has no more arguments")


def _places(model: nn.Module, name: str, strides: list[int]) -> list[int]:
    """Of each stride the last feature of a model, by its place in timm's list."""
    reductions = [info["reduction"] for info in model.feature_info]
    if not set(strides) <= set(reductions):
        raise UserError(
            f"MODEL.TIMM.NAME must be a model with features of strides {strides}, but {name} has "
            f"{sorted(set(reductions))}: name one whose stages halve the picture, such as "
            "convnext_tiny"
        )
    return [max(i for i, r in enumerate(reductions) if r == stride) for stride in strides]


def _arguments(entries: Sequence[Any]) -> dict[str, Any]:
    """MODEL.TIMM.KWARGS as arguments, none of which may fetch or read a file."""
    for entry in entries:
        is_pair = isinstance(entry, (list, tuple)) and len(entry) == 2
        if not is_pair or not isinstance(entry[0], str):
            raise UserError(
                "MODEL.TIMM.KWARGS must be a list of [name, value], such as "
                f'[["depths", [2, 2]]], got {entry!r} in it'
            )
        if entry[0].startswith("pretrained") or entry[0] in ("checkpoint_path", "cache_dir"):
            raise UserError(
                f"MODEL.TIMM.KWARGS must not have {entry[0]!r}: weights of timm are those that "
                "MODEL.WEIGHTS names, as a file or as timm://NAME"
            )
        if entry[0] == "features_only":
            raise UserError(
                "MODEL.TIMM.KWARGS must not have 'features_only': the features are taken of the "
                "model itself"
            )
    return dict(entries)


@BACKBONE_REGISTRY.register()
def build_vfnet_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The model of timm that MODEL.TIMM names, with FPN: see `build_fpn`."""
    timm = cfg.MODEL.TIMM
    kwargs = _arguments(timm.KWARGS)
    if timm.DROP_PATH_RATE:
        kwargs["drop_path_rate"] = timm.DROP_PATH_RATE
    bottom_up = TimmBackbone(
        timm.NAME,
        pyramid_inputs(cfg),
        kwargs=kwargs,
        in_channels=input_shape.channels,
        norm=timm.NORM,
        size_divisibility=timm.SIZE_DIVISIBILITY,
        norm_eval=norms_are_fixed(cfg),
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
    return build_fpn(cfg, bottom_up)
