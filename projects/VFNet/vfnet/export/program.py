"""A detector's graph, taken by `torch.export` for one size of pictures or for all."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._dynamo.exc import UserError as TorchUserError
from torch.export import Dim, ExportedProgram

from ..errors import UserError
from .graph import DetectorGraph

INPUTS = ("images", "sizes")
OUTPUTS = ("boxes", "scores", "classes", "number")
RAW_OUTPUTS = ("scores", "boxes")
# Of pictures of any size, in pixels; torch.export wants a bound.
LARGEST_SIDE = 1 << 16


def output_names(raw: bool) -> tuple[str, ...]:
    """The names of what `DetectorGraph` gives, in its order."""
    return RAW_OUTPUTS if raw else OUTPUTS


def export_program(
    graph: DetectorGraph, batch: int = 1, size: tuple[int, int] | None = None
) -> ExportedProgram:
    """Take the graph for `batch` pictures of a padded size (H, W), or of any size: None.

    Raises:
        UserError: the network, such as a Swin transformer's, takes one size alone into its graph.
    """
    unit, coarsest = _size_unit(graph), _coarsest_stride(graph)
    # Where sizes are to stay open, no level of the example may be a cell high or wide: torch would
    # take that for a rule. What it exports holds for smaller pictures as well.
    height, width = size or (2 * coarsest - unit, 2 * coarsest + unit)
    example = (
        torch.zeros(batch, 3, height, width, dtype=torch.uint8),
        torch.tensor([[height, width]] * batch),
    )
    shapes: Any = None
    if size is None:
        bounds = {"min": coarsest + 1, "max": LARGEST_SIDE}
        shapes = ({2: Dim("height", **bounds), 3: Dim("width", **bounds)}, None)
    graph = graph.cpu().eval().requires_grad_(False)
    with torch.no_grad(), quiet_tracing(), _one_size_alone(size):
        return torch.export.export(
            graph,
            example,
            dynamic_shapes=shapes,
            strict=False,
            # Sizes that levels have by their making need not be proved.
            prefer_deferred_runtime_asserts_over_guards=True,
        )


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Within it no warnings that torch and its exporters give about their own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _one_size_alone(size: tuple[int, int] | None) -> Iterator[None]:
    try:
        yield
    except TorchUserError as error:
        if size is not None:
            raise
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"this network cannot be exported for pictures of any size ({reason}): name one, as in "
            "--size 800x1333"
        ) from error


def _coarsest_stride(graph: DetectorGraph) -> int:
    # Of all levels, those that the head does not read included.
    return max(shape.stride for shape in graph.detector.backbone.output_shape().values())


def _size_unit(graph: DetectorGraph) -> int:
    return max(graph.detector.backbone.size_divisibility, 1)
