#!/usr/bin/env python3
"""How far boxes and scores of inference in half precision lie from float32's.

python benchmarks/precision.py --config-file output/bccd/config.yaml \
    --opts MODEL.WEIGHTS output/bccd/model_final.pth

Compared are predictions at the same locations: those with a score above the threshold, before
suppression, on the first test set.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from lib.device import autocast, check_device
from lib.report import describe
from vfnet.checkpoint import VFNetCheckpointer
from vfnet.config import load_config
from vfnet.data import register_coco_format
from vfnet.engine import Trainer
from vfnet.errors import UserError
from vfnet.modeling import VFNet
from vfnet.modeling.locations import flatten_levels
from vfnet.processes import choose_device, report_errors
from vfnet.utils.precision import PRECISIONS


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--precision", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--pictures", type=int, help="at most (default: all)")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs")
    return parser.parse_args(arguments)


def predictions(model: VFNet, batch: list[dict], precision: str) -> tuple[Tensor, Tensor]:
    """Scores (R, K) and distances (R, 4) in pixels, of all locations."""
    with torch.no_grad(), autocast(model.device.type, PRECISIONS[precision]):
        *_, output = model.predict(batch)
    distances = output.refined_distances or output.distances
    return flatten_levels(output.logits).float().sigmoid(), flatten_levels(distances)


def differences(
    model: VFNet, batch: list[dict], precision: str, threshold: float
) -> tuple[Tensor, Tensor]:
    """Largest difference of a box's sides, in pixels, and of its scores, at each location."""
    scores, distances = predictions(model, batch, "float32")
    half_scores, half_distances = predictions(model, batch, precision)
    passes = (scores > threshold).any(dim=1)
    box = (half_distances - distances).abs().amax(dim=1)[passes]
    return box.cpu(), (half_scores - scores).abs().amax(dim=1)[passes].cpu()


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    cfg = load_config(args.config_file, ["MODEL.VFNET.PRECISION_TEST", "float32", *args.opts])
    cfg.MODEL.DEVICE = choose_device(cfg.MODEL.DEVICE, num_gpus=0)
    check_device(cfg.MODEL.DEVICE, args.precision)
    if not cfg.MODEL.WEIGHTS:
        raise UserError("random weights have no boxes to compare: give --opts MODEL.WEIGHTS FILE")
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name the data set whose pictures to look at")
    register_coco_format(cfg)
    model = Trainer.build_model(cfg).eval()
    if not isinstance(model, VFNet):
        raise UserError(f"expected the config of a VFNet, got that of a {type(model).__name__}")
    VFNetCheckpointer(model, whole_detector=True).load(cfg.MODEL.WEIGHTS)
    loader = Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0])
    found = [
        differences(model, batch, args.precision, cfg.MODEL.VFNET.SCORE_THRESH_TEST)
        for batch in itertools.islice(loader, args.pictures)
    ]
    boxes, scores = (torch.cat(parts) for parts in zip(*found))
    if len(boxes) == 0:
        raise UserError("no location has a score above MODEL.VFNET.SCORE_THRESH_TEST")
    print(describe(cfg.MODEL.DEVICE))
    print(f"\n{len(boxes)} locations, {args.precision} against float32\n")
    print("| | median | 99 % | largest | within 1 px |\n| --- | --- | --- | --- | --- |")
    quantiles = torch.tensor([0.5, 0.99, 1.0])
    within = f"{(boxes <= 1).float().mean():.2%}"
    for name, values, last in (("box, pixels", boxes, within), ("score", scores, "-")):
        cells = [f"{value:.3g}" for value in values.double().quantile(quantiles.double()).tolist()]
        print(f"| {' | '.join((name, *cells, last))} |")


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
