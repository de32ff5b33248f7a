#!/usr/bin/env python3
"""Small drawn objects: the share that no location learns, and AP, before and after each remedy.

    python benchmarks/small_objects.py --device cuda --iterations 500 --workers 1
    python benchmarks/small_objects.py --shares
    python benchmarks/small_objects.py --size 128 --pictures 64 --iterations 150 --seeds 1

Pictures of a few shapes of 4 to 12 px are drawn into a temporary folder. A narrow ResNet-18 learns
them from scratch, anew for each variant and seed, by the real trainer. docs/own_data.md has the
numbers of the first command.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

# Before detectron2, whose import would warn.
from vfnet.processes import report_errors  # isort: skip

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils.env import seed_all_rng
from slices import to_annotation
from tabulate import tabulate

from lib.device import check_device
from vfnet import model_zoo
from vfnet.config import load_config
from vfnet.data import register_coco_format
from vfnet.data.datasets.shapes_layout import CLASSES, Layout, Shape
from vfnet.data.datasets.shapes_paint import paint
from vfnet.engine import Trainer
from vfnet.errors import UserError
from vfnet.inspection.unlearned import assign_boxes

# Pixels: the longer side of a box.
SMALLEST, LARGEST = 4.0, 12.0
# Objects in a picture of 256x256.
DENSITY = 16
FALLBACK = ("MODEL.VFNET.ATSS_FALLBACK", "True")
SCALE_4 = ("MODEL.VFNET.ANCHOR_SCALE", "4.0")


class Variant(NamedTuple):
    """What is changed of the config."""

    overrides: Sequence[str] = ()
    has_p2: bool = False


VARIANTS = {
    "as published": Variant(),
    "ATSS_FALLBACK": Variant(FALLBACK),
    "ANCHOR_SCALE 4": Variant(SCALE_4),
    "ANCHOR_SCALE 4, ATSS_FALLBACK": Variant((*SCALE_4, *FALLBACK)),
    "P2": Variant((), True),
    "P2, ATSS_FALLBACK": Variant(FALLBACK, True),
}


def draw_layout(rng: np.random.RandomState, size: int) -> Layout:
    """Shapes that do not touch each other, anywhere in a square picture."""
    shapes: list[Shape] = []
    while len(shapes) < max(DENSITY * size**2 // 256**2, 2):
        category = rng.randint(len(CLASSES))
        x0, y0, x1, y1 = Shape(category, 0.0, 0.0, 1.0, np.pi / 4).box()
        radius = rng.uniform(SMALLEST, LARGEST) / max(x1 - x0, y1 - y0)
        x, y = rng.uniform(LARGEST, size - LARGEST, 2).tolist()
        if all(np.hypot(x - s.x, y - s.y) > 1.5 * LARGEST for s in shapes):
            shapes.append(Shape(category, x, y, radius, np.pi / 4))
    return Layout(size, size, shapes)


def draw(folder: Path, counts: dict[str, int], size: int) -> None:
    """Write each split as a folder of pictures and a json in COCO's format."""
    for number, (split, count) in enumerate(counts.items()):
        (folder / split).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            layout = draw_layout(np.random.RandomState((number, index)), size)
            name = f"{index:04d}.png"
            picture = paint(layout, (number, index, 1))[:, :, ::-1]
            cv2.imwrite(str(folder / split / name), np.ascontiguousarray(picture))
            images.append({"id": index, "file_name": name, "width": size, "height": size})
            for shape in layout.shapes:
                annotation = {"id": len(annotations) + 1, "image_id": index}
                annotations.append({**annotation, **to_annotation(shape)})
        categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES, start=1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")


def make_config(folder: Path, variant: Variant, args: argparse.Namespace, seed: int) -> CfgNode:
    """The config of a run; its data sets are registered."""
    sets = [[f"small_{s}", str(folder / f"{s}.json"), str(folder / s)] for s in ("train", "val")]
    output = folder / "output"
    size, iterations = str(args.size), args.iterations
    cfg = load_config(
        model_zoo.get_config_file("demo/shapes_R18.yaml"),
        [
            *("MODEL.DEVICE", args.device, "SEED", str(seed), "OUTPUT_DIR", str(output)),
            *("INPUT.MIN_SIZE_TRAIN", f"({size},)", "INPUT.MAX_SIZE_TRAIN", size),
            *("INPUT.MIN_SIZE_TEST", size, "INPUT.MAX_SIZE_TEST", size),
            *("DATASETS.TRAIN", "('small_train',)", "DATASETS.TEST", "('small_val',)"),
            *("SOLVER.MAX_ITER", str(iterations), "SOLVER.CHECKPOINT_PERIOD", str(iterations)),
            *("SOLVER.STEPS", f"({iterations * 3 // 4},{iterations * 9 // 10})"),
            *("SOLVER.IMS_PER_BATCH", str(args.batch), "SOLVER.EARLY_STOP.ENABLED", "False"),
            *("TEST.EVAL_PERIOD", "0", "TEST.VALIDATION_LOSS", "False"),
            *("DATALOADER.NUM_WORKERS", str(args.workers)),
            *variant.overrides,
        ],
        [model_zoo.get_config_file("override/p2.yaml")] if variant.has_p2 else [],
    )
    cfg.DATASETS.COCO_FORMAT = sets
    register_coco_format(cfg)
    return cfg


def share_without_location(cfg: CfgNode) -> float:
    """Of the training set's objects, in percent."""
    (found,) = assign_boxes(cfg, DatasetCatalog.get("small_train"))
    return 100 * float((~found.is_learned).mean())


def score(cfg: CfgNode) -> tuple[float, float]:
    """Train from scratch -> AP and AP50 of the last weights."""
    seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    result = Trainer.test(cfg, trainer.model)["bbox"]
    return result["AP"], result["AP50"]


def with_spread(values: Sequence[float]) -> str:
    """Mean and standard deviation; of one value, that."""
    spread = f" +- {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{spread}"


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--size", type=int, default=256, help="edge of a picture in pixels")
    parser.add_argument("--pictures", type=int, default=320, help="to train on; a quarter to score")
    parser.add_argument("--iterations", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=8, help="pictures of a step")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant")
    parser.add_argument("--workers", type=int, default=2, help="processes that load pictures")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--shares", action="store_true", help="train nothing")
    return parser


def main(args: argparse.Namespace) -> None:
    check_device(args.device)
    if min(args.size, args.pictures, args.iterations, args.batch, args.seeds) < 1:
        raise UserError("--size, --pictures, --iterations, --batch and --seeds have to be above 0")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), {"train": args.pictures, "val": max(args.pictures // 4, 1)}, args.size)
        for name in args.variants:
            start, scores = time.perf_counter(), []
            for seed in range(1, args.seeds + 1):
                cfg = make_config(Path(folder), VARIANTS[name], args, seed)
                share = share_without_location(cfg)
                if args.shares:
                    break
                scores.append(score(cfg))
            row = [name, f"{share:.1f} %"]
            if scores:
                seconds = (time.perf_counter() - start) / args.seeds
                row += [*map(with_spread, zip(*scores)), f"{seconds:.0f} s"]
                print(" | ".join(row), flush=True)  # a run that is stopped has these
            rows.append(row)
    headers = ["variant", "without a location", "AP", "AP50", "a run"]
    print(tabulate(rows, headers[: len(rows[0])], tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    with report_errors():
        main(get_parser().parse_args())
