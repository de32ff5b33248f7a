"""From a config to an exported file: build the graph, write it, describe it, compare it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.file_io import PathManager

from .. import __version__
from ..config import detector_key, detector_node, inference_precision
from ..errors import UserError
from ..loading import build_predictor, class_names
from ..utils.extras import import_extra
from ..utils.files import sha256, write_folder_aside
from .agreement import Agreement, check_pictures
from .description import Description, ResizeRule, description_path, write_description
from .exported import load_exported
from .graph import DetectorGraph, check_architecture
from .onnx_file import write_onnx
from .openvino_file import write_openvino
from .program import export_program, output_names
from .quantize import quantize_file
from .runtimes import SUFFIXES
from .score import LARGEST_LOSS, Scores, compare_scores

# What writing and running a file needs.
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
WRITERS: dict[str, Callable] = {"onnx": write_onnx, "openvino": write_openvino}


class ExportOptions(NamedTuple):
    """What is asked of a file.

    format: "onnx" or "openvino". size: padded height and width; None: any. batch: pictures at a
    time. raw: scores and boxes of all locations.
    """

    format: str
    size: tuple[int, int] | None = None
    batch: int = 1
    raw: bool = False


class Exported(NamedTuple):
    """A file that was written, how far it is from torch, and both scores; None: not compared."""

    path: Path
    agreement: Agreement | None
    scores: Scores | None


def export_detector(
    cfg: CfgNode,
    name: str,
    folder: Path,
    options: ExportOptions,
    pictures: Sequence[str] = (),
    *,
    calibration: Sequence[str] = (),
    dataset: str = "",
    accept_loss: bool = False,
) -> Exported:
    """Write the detector of a config, with its weights, as `folder`/`name`.onnx or .xml.

    Args:
        pictures: to compare the file with the detector on; one that differs is not written.
        calibration: pictures by which the file is brought into int8, as `name`_int8.xml. It is
            compared before that.
        dataset: a registered data set, to score the detector and the file on. One that loses more
            than `LARGEST_LOSS` is not written, unless `accept_loss`.

    Raises:
        UserError: the config's detector has no such graph, its weights do not load, a package is
            missing, the file differs from the detector or loses too much, nothing is found on the
            pictures to compare, or a file of another format has its place.
    """
    _check_place(folder / f"{name}{'_int8' * bool(calibration)}{SUFFIXES[options.format]}")
    graph = build_graph(cfg, options.raw)
    # Sooner than where each is used, which may be minutes later.
    for package in (*PACKAGES[options.format], *(["nncf"] if calibration else [])):
        import_extra(package, "export")
    program = export_program(graph, options.batch, options.size)
    with write_folder_aside(folder) as aside:
        file = aside / f"{name}{SUFFIXES[options.format]}"
        WRITERS[options.format](program, file, output_names(options.raw))
        description = describe(cfg, name, graph, options)
        write_description(description, description_path(file))
        agreement = scores = None
        if pictures:
            agreement = check_pictures(load_exported(file), graph, pictures)
            if agreement.compared:
                proof = {"pictures": len(pictures), **agreement._asdict()}
                description = description._replace(checked=proof)
            elif dataset:
                agreement = None  # AP alone is compared
            else:
                raise UserError(
                    f"nothing was compared and nothing written: on the {len(pictures)} pictures to "
                    "check neither the file nor the detector finds anything; give pictures with "
                    f"objects, or a lower {detector_key(cfg)}.SCORE_THRESH_TEST"
                )
        if calibration:
            description = description._replace(precision="int8")
            file = _to_int8(file, calibration)
        write_description(description, description_path(file))
        if dataset:
            scores = compare_scores(cfg, load_exported(file), graph.detector, dataset)
            _check_loss(scores, accept_loss)
            description = description._replace(scored=scores._asdict())
            write_description(description, description_path(file))
    return Exported(folder / file.name, agreement, scores)


def _check_place(file: Path) -> None:
    for suffix in SUFFIXES.values():
        other = file.with_suffix(suffix)
        if other != file and other.is_file():
            raise UserError(
                f"{other} is there, which {description_path(file)} describes: choose another "
                f"folder for {file.name}, or remove it"
            )


def _to_int8(file: Path, calibration: Sequence[str]) -> Path:
    """Put a file in int8 in the place of one of float32; return its name."""
    target = file.with_stem(f"{file.stem}_int8")
    quantize_file(file, load_exported(file), calibration, target)
    for old in file.parent.glob(f"{file.stem}.*"):
        old.unlink()
    return target


def _check_loss(scores: Scores, accept_loss: bool) -> None:
    if scores.lost > LARGEST_LOSS and not accept_loss:
        raise UserError(
            f"the file has AP {scores.file:.2f} on {scores.dataset}, the detector in torch "
            f"{scores.torch:.2f}: it loses {scores.lost:.2f}, more than {LARGEST_LOSS}; nothing "
            "was written. Calibrate on other or more pictures, or give --accept-loss"
        )


def build_graph(cfg: CfgNode, raw: bool) -> DetectorGraph:
    """Load the detector of a config and make it a graph, on the CPU and in float32.

    Raises:
        UserError: as `export_detector`.
    """
    check_architecture(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE))
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.TEST.AUG.ENABLED = "cpu", False
    key, precision = inference_precision(cfg)
    if precision != "float32":
        print(f"{key} {precision} plays no part: the file computes in float32")
        detector_node(cfg).PRECISION_TEST = "float32"
    detector = build_predictor(cfg).model
    return DetectorGraph(detector, rgb=cfg.INPUT.FORMAT == "RGB", raw=raw)


def describe(cfg: CfgNode, name: str, graph: DetectorGraph, options: ExportOptions) -> Description:
    """Say what a file of this graph takes, gives and is made of."""
    rule = graph.rule
    return Description(
        format=options.format,
        precision="float32",
        detector=cfg.MODEL.META_ARCHITECTURE,
        config=name,
        class_names=class_names(cfg),
        input_format=cfg.INPUT.FORMAT,
        raw=options.raw,
        batch=options.batch,
        size=options.size,
        resize=ResizeRule(cfg.INPUT.RESIZE, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST),
        candidates=None if rule is None else ("location" if rule.by_location else "pair"),
        score_threshold=None if rule is None else rule.score_threshold,
        topk=None if rule is None else rule.topk,
        iou_threshold=None if rule is None else rule.iou_threshold,
        max_detections=None if rule is None else rule.max_detections,
        weights=cfg.MODEL.WEIGHTS,
        weights_sha256=sha256(PathManager.get_local_path(cfg.MODEL.WEIGHTS)),
        versions=_versions(),
        files={},
        checked=None,
    )


def _versions() -> dict[str, str]:
    versions = {"vfnet": __version__, "python": platform.python_version()}
    versions["torch"] = torch.__version__
    for package in ("torchvision", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
