"""One file a detector, each with its `TABLE`; a new file needs no entry anywhere."""

from importlib import import_module
from pkgutil import iter_modules

from ..rule import Table

TABLES: list[Table] = [
    import_module(f"{__name__}.{module.name}").TABLE
    for module in sorted(iter_modules(__path__), key=lambda module: module.name)
]
