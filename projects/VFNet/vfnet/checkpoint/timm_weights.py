"""Weights of a model of timm: under its names, as files and as `MODEL.WEIGHTS: timm://NAME`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from detectron2.utils.file_io import PathHandler, PathManager
from torch import Tensor, nn

from ..errors import UserError
from ..modeling.backbone.timm_backbone import TimmBackbone
from ..utils.extras import import_extra

PREFIX = "timm://"


def find_timm_backbone(model: nn.Module) -> tuple[str, TimmBackbone] | None:
    """The backbone of timm in a detector, and what its names begin with; None without one."""
    backbones = ((n, m) for n, m in model.named_modules() if isinstance(m, TimmBackbone))
    return next(((f"{name}.model.", module) for name, module in backbones), None)


def are_timms(weights: Mapping[str, Any]) -> bool:
    """Whether the names are not those of a detector of Detectron2, nor of its backbone."""
    return not any(name.startswith("backbone.") for name in weights)


def backbone_weights(
    weights: Mapping[str, Tensor], backbone: TimmBackbone
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights of a classifier, under timm's names or its authors', as timm itself would load them.

    Args:
        weights: of the whole model; what differs in size, such as tables of positions, timm
            interpolates.
        backbone: of the same model.

    Returns:
        those of `backbone.model`, and the names that are left over: of the classifier, and of what
        only its later features need. What else does not fit is among the first.

    Raises:
        UserError: timm cannot make anything of them.
    """
    # The function by which a family reads its authors' files, as most families have it.
    family = vars(sys.modules[type(backbone.model).__module__])
    translate = family.get("checkpoint_filter_fn", lambda weights, model: weights)
    try:
        own = translate(dict(weights), backbone.model)
    except Exception as error:  # of names that it expects and shapes that do not fit
        text = " ".join(f"{type(error).__name__} {error}".split())
        raise UserError(
            f"expected weights of timm's {backbone.name}, found others, of which timm can make "
            f"nothing ({text}); set MODEL.TIMM.NAME to the model that they are of"
        ) from error
    classifier = backbone.model.pretrained_cfg.get("classifier") or ()
    layers = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    beginnings = tuple(f"{layer}." for layer in layers)
    left = [n for n in own if n in backbone.left_out or n.startswith(beginnings)]
    return {name: value for name, value in own.items() if name not in left}, left


class TimmHandler(PathHandler):
    """Gives the local path of the weights that timm publishes under a name, downloaded once."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        name = path[len(PREFIX) :]
        try:
            published = import_extra("timm", "timm").get_pretrained_cfg(name)
        except RuntimeError as error:  # a tag that there is not
            raise UserError(f"MODEL.WEIGHTS {path}: {error}") from error
        if published is None or not (published.hf_hub_id or published.url):
            raise UserError(
                f"timm publishes no weights of {name!r}: timm.list_pretrained() names those that "
                "it does; or set MODEL.WEIGHTS to a file"
            )
        try:
            if not published.hf_hub_id:
                return PathManager.get_local_path(published.url, force=force)
            hub = import_extra("huggingface_hub", "timm")
            file = published.hf_hub_filename or "model.safetensors"
            return hub.hf_hub_download(published.hf_hub_id, file, force_download=force)
        except Exception as error:  # of the network, the hub, or the disk
            where = published.hf_hub_id or published.url
            raise UserError(
                f"{path} cannot be fetched from {where} ({type(error).__name__}): download it by "
                "other means and set MODEL.WEIGHTS to the file"
            ) from error


def register_timm_handler() -> None:
    """Make Detectron2's PathManager understand `timm://`; calling it again changes nothing."""
    PathManager.register_handler(TimmHandler(), allow_override=True)
