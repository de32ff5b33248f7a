"""Packages that only an extra of setup.py brings: imported where they are used, never before."""

from importlib import import_module
from importlib.util import find_spec
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
        raise UserError(_missing(module, extra, str(error))) from error


def require_extra(module: str, extra: str) -> None:
    """Check that a module is installed that `extra` brings, without importing it.

    Raises:
        UserError: it is not.
    """
    if find_spec(module) is None:
        raise UserError(_missing(module, extra, "not installed"))


def _missing(module: str, extra: str, reason: str) -> str:
    return (
        f"this needs the package {module.partition('.')[0]} ({reason}): pip install "
        f'"vfnet-detectron2[{extra}]", or in a clone pip install -e ".[{extra}]"'
    )
