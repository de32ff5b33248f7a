#!/usr/bin/env python3
"""A whole VFNet with each way to take its deformable convolutions: inference and a training step.

    python benchmarks/deform_paths.py --config-file configs/vfnet_R50_1x.yaml --device cuda
    python benchmarks/deform_paths.py --config-file configs/vfnet_R50_dcn_ms_2x.yaml --layer dcn

"as it is" is what the model does by itself; the others gather, take `grid_sample` (the star alone),
Detectron2's kernel (CUDA alone) or torchvision's, wherever such a layer stands. Both kernels are in
float32 whatever autocast says. The layers alone: benchmarks/star_deform_conv.py, deform_conv.py.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from detectron2 import _C
from detectron2.layers import ModulatedDeformConv
from torch import Tensor
from torchvision.ops import deform_conv2d

from lib.cases import get_parser, report, run_cases, size
from lib.device import check_device
from lib.models import Subject, Workload
from lib.runs import Bench
from lib.timing import Run, Summary, Watch
from lib.variants import agreement
from vfnet.layers import star_conv
from vfnet.layers.deform_conv import AnyDeviceDeformConv
from vfnet.layers.gather_conv import finite_offsets
from vfnet.layers.star_conv import StarDeformConv
from vfnet.modeling.heads import vfnet as head
from vfnet.processes import report_errors
from vfnet.utils.precision import PRECISIONS

AS_IT_IS = "as it is"


def detectron2_kernel(
    layer: ModulatedDeformConv, x: Tensor, offset: Tensor, mask: Tensor
) -> Tensor:
    """The layer's forward as Detectron2 has it, in float32."""
    offset = finite_offsets(offset)
    tensors = [tensor.float().contiguous() for tensor in (x, offset, mask)]
    with torch.autocast(x.device.type, enabled=False):
        return ModulatedDeformConv.forward(layer, *tensors)


def star_by_detectron2(
    layer: StarDeformConv, x: Tensor, offset: Tensor, samples: Any = None
) -> Tensor:
    return detectron2_kernel(layer, x, offset, offset.new_ones(len(x), 9, *x.shape[-2:]))


def star_by_torchvision(
    layer: StarDeformConv, x: Tensor, offset: Tensor, samples: Any = None
) -> Tensor:
    offset = finite_offsets(offset)
    with torch.autocast(x.device.type, enabled=False):
        out = deform_conv2d(x.float(), offset, layer.weight, padding=1)
    return out if layer.activation is None else layer.activation(out)


def star_sampling(by_grid: bool) -> Any:
    """Let every star take `grid_sample`, or gather."""
    return mock.patch.object(star_conv, "takes_grid", lambda x: by_grid)


@contextmanager
def star_kernel(forward: Callable) -> Iterator[None]:
    """Let every star take `forward`, which finds its samples from the offsets."""
    without = mock.patch.object(head, "star_samples", lambda x, offset: None)
    with without, mock.patch.object(StarDeformConv, "forward", forward):
        yield


def dcn_path(method: str, function: Callable) -> Any:
    """Let every DCNv2 layer have another method."""
    return mock.patch.object(AnyDeviceDeformConv, method, function)


def paths(layer: str, device: str) -> dict[str, Callable]:
    """Way -> what makes the context in which the layers, "star" or "dcn", go that way."""
    kernel = device.startswith("cuda") and _C.has_cuda()
    ways: dict[str, Callable] = {AS_IT_IS: ExitStack}
    if layer == "star":
        ways["gathering"] = lambda: star_sampling(False)
        ways["grid_sample"] = lambda: star_sampling(True)
        ways["deform_conv2d"] = lambda: star_kernel(star_by_torchvision)
        if kernel:
            ways["Detectron2's kernel"] = lambda: star_kernel(star_by_detectron2)
    else:
        ways["gathering"] = lambda: dcn_path("_gathers", lambda *_: True)
        ways["deform_conv2d"] = lambda: dcn_path("_gathers", lambda *_: False)
        if kernel:
            ways["Detectron2's kernel"] = lambda: dcn_path("forward", detectron2_kernel)
    return ways


def run_in(path: Callable, bench: Bench) -> Run:
    """A run of both phases, each as a whole."""

    def run(watch: Watch) -> None:
        with path():
            bench.inference(watch)
            bench.training_step(watch)

    return run


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    add = parser.add_argument
    add("--config-file", required=True, help="yaml of the VFNet")
    add("--layer", choices=["star", "dcn"], default="star")
    add("--image-size", default="800x1333", metavar="HxW")
    add("--batch", type=int, default=1, help="pictures at a time")
    add("--precision", choices=list(PRECISIONS), default="float32")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE pairs")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    check_device(args.device, args.precision)
    workload = Workload(
        args.config_file,
        tuple(args.opts),
        device=args.device,
        image_size=size(args.image_size),
        batch=args.batch,
        precision=PRECISIONS[args.precision],
    )
    bench = Bench(Subject("vfnet"), workload)
    expected, found = bench.detections(), {}
    ways = paths(args.layer, args.device)
    for name, path in ways.items():
        with path():
            found[name] = agreement(expected, bench.detections())
    case = f"{args.batch} of {args.image_size}, {args.precision}"
    runs = {name: run_in(path, bench) for name, path in ways.items()}
    results, samples = run_cases({case: runs}, args.repeats, args.warm_up, args.device)
    for rows in results.values():
        for row, value in list(rows.items()):
            if isinstance(value, Summary):
                rows[f"{row}, images a second"] = args.batch / value.median
    report(args, results, samples)
    for name, difference in found.items():
        print(f"\n{name}: {difference}")


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
