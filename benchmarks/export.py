#!/usr/bin/env python3
"""A detector in torch and as exported files: ONNX Runtime, OpenVINO in float32 and in int8.

python benchmarks/export.py --config-file configs/vfnet_R50_1x.yaml --image-size 800x1088

From a resized picture to its detections, on the CPU, all in turns, with the threads that each takes
by itself. Random weights, made realistic; they do not tell what int8 loses, which
tools/export.py --check does.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib.cases import get_parser, size, timed
from lib.models import Batch, Workload, build_batch, build_detector
from lib.report import describe, write_report
from lib.timing import Samples, measure
from lib.variants import agreement
from vfnet.errors import UserError
from vfnet.export.exported import ExportedDetector
from vfnet.export.graph import DetectorGraph
from vfnet.export.onnx_file import write_onnx
from vfnet.export.openvino_file import write_openvino
from vfnet.export.program import export_program, output_names
from vfnet.export.quantize import quantize
from vfnet.export.runtimes import open_onnx, open_openvino
from vfnet.export.write import ExportOptions
from vfnet.export.write import describe as describe_file
from vfnet.modeling.locations import padded_size
from vfnet.processes import report_errors
from vfnet.utils.extras import import_extra

EAGER = "torch, eager"

# Pictures -> detections, as Detectron2's models are called.
Detector = Callable[[Batch], list[dict]]


def exported_detectors(
    model: nn.Module, workload: Workload, calibration: int, folder: Path
) -> dict[str, Detector]:
    """Each exported form of a detector, loaded.

    Args:
        calibration: random pictures that int8 is calibrated on.
        folder: for the files.
    """
    cfg = workload.config()
    cfg.MODEL.WEIGHTS = str(folder / "model.pth")
    torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
    graph = DetectorGraph(model, rgb=cfg.INPUT.FORMAT == "RGB")
    height, width = padded_size(workload.image_size, model.backbone.size_divisibility)
    options = ExportOptions("openvino", (height, width), workload.batch)
    description = describe_file(cfg, "benchmark", graph, options)

    onnx, float32, int8 = (folder / name for name in ("f32.onnx", "f32.xml", "int8.xml"))
    for write, path in ((write_onnx, onnx), (write_openvino, float32)):
        # Each its own: a program that was written once cannot be written again.
        program = export_program(graph, workload.batch, (height, width))
        write(program, path, output_names(raw=False))
    files = {
        "ONNX Runtime": ExportedDetector(description, open_onnx(onnx)),
        "OpenVINO": ExportedDetector(description, open_openvino(float32)),
    }
    openvino = import_extra("openvino", "export")
    pictures = [build_batch(workload._replace(seed=seed + 1)) for seed in range(calibration)]
    quantized = quantize(
        openvino.Core().read_model(float32),
        pictures,
        lambda batch: files["OpenVINO"].arrays([record["image"] for record in batch]),
    )
    openvino.save_model(quantized, int8, compress_to_fp16=False)
    return {**files, "OpenVINO, int8": ExportedDetector(description, open_openvino(int8))}


def time_detectors(
    detectors: Mapping[str, Detector], batch: Batch, repeats: int, warm_up: int
) -> Samples:
    """Seconds of each for a batch."""
    runs = {name: timed(partial(detector, batch)) for name, detector in detectors.items()}
    with torch.no_grad():
        return measure(runs, repeats, warm_up)


def table(samples: Samples) -> str:
    """Median and 95th percentile, and the median in those of the first."""
    lines = ["| | median | 95th percentile | / eager |", "| --- | --- | --- | --- |"]
    first = None
    for name, parts in samples.items():
        median, high = np.percentile(parts["time"], (50, 95))
        first = first or median
        lines.append(f"| {name} | {median:.3f} s | {high:.3f} s | {median / first:.2f} |")
    return "\n".join(lines)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    parser.add_argument("--config-file", required=True, help="yaml of the detector")
    parser.add_argument("--weights", default="", help="its weights (default: random ones)")
    parser.add_argument("--image-size", default="800x1088", metavar="HxW")
    parser.add_argument("--batch", type=int, default=1, help="pictures at a time")
    parser.add_argument("--candidates", type=int, default=1000, help="with random weights")
    parser.add_argument("--calibration", type=int, default=4, help="pictures, for int8")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    if args.device != "cpu":
        raise UserError(f"exported files run on the CPU here, got --device {args.device}")
    workload = Workload(
        config_file=args.config_file,
        overrides=tuple(args.opts),
        weights=args.weights,
        image_size=size(args.image_size),
        batch=args.batch,
        candidates=args.candidates,
    )
    model, batch = build_detector("vfnet", workload), build_batch(workload)
    with tempfile.TemporaryDirectory() as folder:
        files = exported_detectors(model, workload, args.calibration, Path(folder))
        detectors: dict[str, Detector] = {EAGER: model, **files}
        samples = time_detectors(detectors, batch, args.repeats, args.warm_up)
        print(describe(args.device))
        print(f"\n{args.batch} pictures of {args.image_size}, float32 but for int8\n")
        print(table(samples))
        with torch.no_grad():
            found = {
                name: [result["instances"] for result in detector(batch)]
                for name, detector in detectors.items()
            }
    for name in files:
        print(f"\n{name}: {agreement(found[EAGER], found[name])}")
    if args.json:
        write_report(args.json, args.device, {"samples": samples})


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
