"""Exported files run by ONNX Runtime and OpenVINO: arrays in, arrays out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..utils.extras import import_extra
from .program import INPUTS

# images (N, 3, H, W) uint8 RGB, sizes (N, 2) int64 -> outputs by name.
Runtime = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


def open_onnx(path: Path) -> Runtime:
    """Load a file into ONNX Runtime, on the CPU.

    Raises:
        UserError: onnxruntime is missing, or does not load the file.
    """
    runtime = import_extra("onnxruntime", "export")
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _unreadable(path, "ONNX Runtime", error) from error
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, dict(zip(INPUTS, (images, sizes))))))

    return run


def open_openvino(path: Path) -> Runtime:
    """Load a file into OpenVINO, on the CPU, computing in float32 where the file does.

    Raises:
        UserError: openvino is missing, or does not load the file.
    """
    openvino = import_extra("openvino", "export")
    try:
        # On processors that have bfloat16 its plugin would compute in it.
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise _unreadable(path, "OpenVINO", error) from error
    names = [output.any_name for output in compiled.outputs]

    def run(images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled(dict(zip(INPUTS, (images, sizes))))
        return {name: found[name] for name in names}

    return run


# By the format of a description; the suffix of its file.
RUNTIMES: dict[str, Callable[[Path], Runtime]] = {"onnx": open_onnx, "openvino": open_openvino}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


def _unreadable(path: Path, runtime: str, error: Exception) -> UserError:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(f"{runtime} does not load {path} ({first_line}): export it again")
