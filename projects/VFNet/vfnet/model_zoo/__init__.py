"""The configs that this project comes with, by name, as `detectron2.model_zoo` has its own."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..checkpoint import VFNetCheckpointer, take_resize
from ..config import get_cfg
from .handler import register_vfnet_handler
from .published import NotInZooError, weights_url


def config_files() -> list[str]:
    """The paths of all configs, relative to `configs/`."""
    folder = _config_folder()
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.yaml"))]


def get_config_file(config_path: str) -> str:
    """Return the path of a config that this project comes with.

    Args:
        config_path: the file's name, such as "vfnet_R50_1x.yaml", or its path relative to
            `configs/`, such as "ablation/vfnet_R50_1x_raw.yaml"; ".yaml" may be left out.

    Raises:
        NotInZooError: there is no config of that name; the message names the nearest.
    """
    folder = _config_folder()
    files = {file: folder / file for file in config_files()}
    # No two folders have a file of the same name.
    by_name = files | {path.name: path for path in files.values()}
    name = config_path if config_path.endswith(".yaml") else f"{config_path}.yaml"
    if name not in by_name:
        # By stems: of a short name, ".yaml" would be what it shares with any other.
        stems = [Path(file).stem for file in files]
        near = difflib.get_close_matches(name.rpartition("/")[2].removesuffix(".yaml"), stems, n=3)
        close = [f"{stem}.yaml" for stem in near]
        known = f"did you mean {' or '.join(close)}" if close else f"available: {', '.join(files)}"
        raise NotInZooError(
            f"expected the name of a config of this project, got {config_path!r}; {known}"
        )
    return str(by_name[name])


def get_config(config_path: str, trained: bool = False) -> CfgNode:
    """Return the whole config: Detectron2's and VFNet's defaults with that file merged in.

    Args:
        config_path: as `get_config_file` takes it.
        trained: set MODEL.WEIGHTS to the published checkpoint, and INPUT.RESIZE to the resizing
            that it was trained with; else they stay the file's own, the weights mostly an ImageNet
            backbone.

    Raises:
        NotInZooError: there is no config of that name or, for `trained`, no published checkpoint.
    """
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(config_path))
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
        take_resize(cfg)
    return cfg


def get_checkpoint_url(config_path: str) -> str:
    """Return where the published checkpoint of a config is, as MODEL.WEIGHTS takes it.

    Args:
        config_path: as `get_config_file` takes it.

    Returns:
        "mmdet://" and the URL of the file, which is mmdet's: loading converts it.

    Raises:
        NotInZooError: nothing is published at a URL; the message says what is, or where else it is.
    """
    return f"mmdet://{weights_url(Path(get_config_file(config_path)).stem)}"


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """Return the model of a config, in training mode, with the weights of `get_config` loaded.

    Args:
        config_path: as `get_config_file` takes it.
        trained: as `get_config` takes it.
        device: instead of MODEL.DEVICE; by default the CPU where there is no GPU.

    Raises:
        NotInZooError: as `get_config`.
        UserError: the weights cannot be fetched or do not fit.
    """
    cfg = get_config(config_path, trained)
    if device or not torch.cuda.is_available():
        cfg.MODEL.DEVICE = device or "cpu"
    model = build_model(cfg)
    VFNetCheckpointer(model, whole_detector=trained).load(cfg.MODEL.WEIGHTS)
    return model


def _config_folder() -> Path:
    """Return `configs/`: inside the package in a wheel, at the root in the repository."""
    package = Path(__file__).resolve().parents[1]
    carried = package / "configs"
    return carried if carried.is_dir() else package.parents[2] / "configs"


register_vfnet_handler()
