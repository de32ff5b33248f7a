"""An exported program as an ONNX file of standard operators."""

from pathlib import Path

import torch
from torch.export import ExportedProgram

from ..utils.extras import import_extra
from .program import INPUTS, quiet_tracing

# The first with DeformConv is 19; ONNX Runtime has it from 1.25, TensorRT from 10.1.
OPSET = 20


def write_onnx(program: ExportedProgram, path: Path, outputs: tuple[str, ...]) -> None:
    """Write `path`; above 2 GB the weights come into `path`.data beside it.

    Raises:
        UserError: onnx or onnxscript is missing.
        onnx.checker.ValidationError: the file is none by ONNX's rules.
    """
    onnx = import_extra("onnx", "export")
    import_extra("onnxscript", "export")
    with quiet_tracing():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=list(outputs),
            verbose=False,
        )
    assert exported is not None
    exported.save(path)
    onnx.checker.check_model(str(path), full_check=True)
