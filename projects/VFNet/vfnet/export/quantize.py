"""OpenVINO's files in int8, but for the head's last layers and what makes detections of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..utils.extras import import_extra
from .exported import ExportedDetector
from .program import INPUTS

# Fewer do not show how far activations reach; of more only so many are looked at.
FEWEST_PICTURES = 128
MOST_PICTURES = 300
_DEFORMABLE = "DeformableConvolution"
_CONVOLUTIONS = ("Convolution", "GroupConvolution", _DEFORMABLE)


def quantize_file(
    file: Path, exported: ExportedDetector, pictures: Sequence[str], target: Path
) -> None:
    """Write a float32 file of OpenVINO's in int8, calibrated on pictures.

    Args:
        file: .xml. exported: the same, loaded, which reads and resizes the pictures.
        pictures: files, at least `FEWEST_PICTURES`; of more than `MOST_PICTURES` so many, at equal
            distances.
        target: .xml, another name.

    Raises:
        UserError: nncf is missing, there are too few pictures, or one cannot be read.
    """
    openvino = import_extra("openvino", "export")
    model = openvino.Core().read_model(file)
    batches = calibration_batches(pictures, exported.description.batch)
    quantized = quantize(
        model, batches, lambda batch: exported.arrays([exported.read(file) for file in batch])
    )
    openvino.save_model(quantized, target, compress_to_fp16=False)


def check_calibration(pictures: Sequence[str]) -> None:
    """Check that there are enough pictures.

    Raises:
        UserError: there are not.
    """
    if len(pictures) < FEWEST_PICTURES:
        raise UserError(
            f"int8 needs at least {FEWEST_PICTURES} pictures to calibrate on, found "
            f"{len(pictures)}: name a folder with more, of the kind that will be looked at"
        )


def calibration_batches(pictures: Sequence[str], batch: int) -> list[list[str]]:
    """Choose pictures, in the order given, and put `batch` together at a time.

    Raises:
        UserError: there are too few.
    """
    check_calibration(pictures)
    number = min(len(pictures), MOST_PICTURES)
    if batch > number:
        raise UserError(f"int8 is calibrated on {number} pictures, fewer than a batch of {batch}")
    chosen = [pictures[i * len(pictures) // number] for i in range(number)]
    # What is left over would be filled up with black.
    return [chosen[first : first + batch] for first in range(0, number - batch + 1, batch)]


def quantize(
    model: Any,
    batches: Sequence[Any],
    arrays: Callable[[Any], tuple[np.ndarray, np.ndarray]],
) -> Any:
    """Return an `openvino.Model` in int8; the same at each call.

    Args:
        model: an `openvino.Model` of `DetectorGraph`, float32; it is changed.
        batches: what to calibrate on. arrays: makes what the model takes of one of them, images
            (N, 3, H, W) uint8 RGB and sizes (N, 2) int64.

    Raises:
        UserError: nncf is missing.
    """
    nncf = import_extra("nncf", "export")
    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(
        model,
        nncf.Dataset(batches, lambda batch: dict(zip(INPUTS, arrays(batch)))),
        subset_size=len(batches),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(names=float_operations(model), validate=False),
    )


def float_operations(model: Any) -> list[str]:
    """The names of the operations that stay in float: the last layers and all that follow them.

    The last layers are the convolutions from which a way leads to a result without another one on
    it. What is computed of them is decoding: scores, boxes and suppression, and the points at which
    a star convolution reads, but not that convolution itself.
    """
    results = [result.input_value(0).get_node() for result in model.get_results()]
    upwards = _reached(results, lambda node: [] if _convolves(node) else _inputs(node))
    last = [node for node in upwards.values() if _convolves(node)]
    return sorted(_reached(last, _followers))


def _reached(start: Iterable[Any], following: Callable[[Any], Iterable[Any]]) -> dict[str, Any]:
    """The nodes of a graph, by name, that `following` leads to from some of them, these too."""
    found: dict[str, Any] = {}
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() not in found:
            found[node.get_friendly_name()] = node
            waiting += following(node)
    return found


def _convolves(node: Any) -> bool:
    return node.get_type_name() in _CONVOLUTIONS


def _inputs(node: Any) -> list[Any]:
    return [node.input_value(i).get_node() for i in range(node.get_input_size())]


def _followers(node: Any) -> list[Any]:
    targets = [t.get_node() for output in node.outputs() for t in output.get_target_inputs()]
    return [target for target in targets if target.get_type_name() != _DEFORMABLE]
