"""The configs that this project comes with, by name, as `detectron2.model_zoo` has its own."""

from pathlib import Path

from detectron2.config import CfgNode

from .config import get_cfg
from .errors import UserError


def get_config_file(config_path: str) -> str:
    """Return the path of a config that this project comes with.

    Args:
        config_path: its name relative to `configs/`, such as "vfnet_R50_1x.yaml" or
            "ablation/vfnet_R50_1x_raw.yaml"; ".yaml" may be left out.

    Raises:
        UserError: there is no config of that name; the message lists those there are.
    """
    folder = _config_folder()
    available = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))
    name = config_path if config_path.endswith(".yaml") else f"{config_path}.yaml"
    if name not in available:
        raise UserError(
            f"expected the name of a config of this project, got {config_path!r}; "
            f"available: {', '.join(available)}"
        )
    return str(folder / name)


def get_config(config_path: str) -> CfgNode:
    """Return the whole config: Detectron2's and VFNet's defaults with that file merged in.

    Args:
        config_path: as `get_config_file` takes it.

    Raises:
        UserError: there is no config of that name.
    """
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(config_path))
    return cfg


def _config_folder() -> Path:
    """Return `configs/`: inside the package in a wheel, at the root in the repository."""
    package = Path(__file__).resolve().parent
    carried = package / "configs"
    return carried if carried.is_dir() else package.parents[2] / "configs"
