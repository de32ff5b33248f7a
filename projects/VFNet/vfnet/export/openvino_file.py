"""An exported program as OpenVINO's pair of files, .xml and .bin.

OpenVINO reads `deform_conv2d` from torch's program, but not from ONNX.
"""

from pathlib import Path
from typing import Any

import numpy as np
from torch.export import ExportedProgram

from ..utils.extras import import_extra
from .program import INPUTS, quiet_tracing


def convert_program(program: ExportedProgram, outputs: tuple[str, ...]) -> Any:
    """Return the `openvino.Model`, float32, with names and shapes of inputs and outputs.

    Raises:
        UserError: openvino is missing.
    """
    openvino = import_extra("openvino", "export")
    frontend = import_extra("openvino.frontend.pytorch", "export")
    with quiet_tracing():
        model = openvino.convert_model(
            program,
            example_input=program.example_inputs[0],
            extension=[frontend.ConversionExtension("torchvision.nms.default", _nms)],
        )
    for places, names in ((model.inputs, INPUTS), (model.outputs, outputs)):
        for place, name in zip(places, names):
            place.get_tensor().set_names({name})
    model.reshape(
        {
            node.name: [side if isinstance(side, int) else -1 for side in node.meta["val"].shape]
            for node in program.graph.nodes
            if node.name in INPUTS
        }
    )
    return model


def write_openvino(program: ExportedProgram, path: Path, outputs: tuple[str, ...]) -> None:
    """Write `path`, which ends in .xml, and the weights beside it.

    Raises:
        UserError: openvino is missing.
    """
    model = convert_program(program, outputs)
    import_extra("openvino", "export").save_model(model, path, compress_to_fp16=False)


def _nms(context: Any) -> Any:
    """torchvision's nms, for which OpenVINO has no rule, in OpenVINO's operations."""
    ops = import_extra("openvino.opset13", "export")

    def integers(*values: int) -> Any:
        return ops.constant(np.array(values, dtype=np.int64))

    boxes, scores = context.get_input(0), context.get_input(1)
    picked = ops.non_max_suppression(
        ops.unsqueeze(boxes, integers(0)),  # (1, C, 4)
        ops.unsqueeze(scores, integers(0, 1)),  # (1, 1, C)
        ops.constant(np.int64(np.iinfo(np.int32).max)),
        ops.constant(np.float32(context.get_values_from_const_input(2))),
        ops.constant(np.finfo(np.float32).min),
        box_encoding="corner",
        sort_result_descending=False,
        output_type="i64",
    )
    # Of three numbers a box the last is its index; rows behind the valid ones hold nothing.
    number = ops.reshape(picked.output(2), integers(1), special_zero=False)
    valid = ops.slice(picked.output(0), integers(0), number, integers(1), integers(0))
    return ops.gather(valid, ops.constant(np.int64(2)), ops.constant(np.int64(1))).outputs()
