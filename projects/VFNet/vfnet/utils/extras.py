"""Packages that only an extra of setup.py brings: imported where they are used, never before."""

from importlib import import_module
from types import ModuleType

from ..errors import UserError


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module that `extra` installs.

    Raises:
        UserError: it is not installed, or does not load here.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"this needs the package {module.partition('.')[0]} ({error}): pip install "
            f'"vfnet-detectron2[{extra}]", or in a clone pip install -e ".[{extra}]"'
        ) from error
