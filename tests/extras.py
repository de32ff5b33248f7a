"""Tests of what an extra of setup.py brings: skipped with its name where it is not installed."""

from importlib.util import find_spec

import pytest

MODULES = {
    "export": ("nncf", "onnx", "onnxruntime", "onnxscript", "openvino"),
    "sahi": ("sahi",),
    "timm": ("timm",),
    "wandb": ("wandb",),
    "web": ("gradio", "playwright"),
    "test-extras": ("supervision",),
}


def needs(extra: str) -> pytest.MarkDecorator:
    """Skip the test module that calls this, or mark it for `make test-extras`.

        pytestmark = needs("export")

    Call it before the module imports anything of the extra.
    """
    missing = [name for name in MODULES[extra] if find_spec(name) is None]
    if missing:
        pytest.skip(
            f"needs the extra {extra!r} ({', '.join(missing)}): make test-extras installs it",
            allow_module_level=True,
        )
    return pytest.mark.extra
