#!/usr/bin/env python3
"""Images a second of the training loader, by its number of workers, and what their time goes into.

    python benchmarks/loader.py                       # pictures of COCO's kind, drawn at random
    python benchmarks/loader.py --drawn 0 --config-file configs/own_data.yaml --opts \\
        DATASETS.COCO_FORMAT "[['my_train','train.json','images']]" DATASETS.TRAIN "('my_train',)"
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from lib.cases import get_parser
from lib.loading import profile_loading, time_loader, with_rates
from lib.pictures import write_coco_like
from lib.report import Value, as_json, describe, table, write_report
from lib.timing import Samples, summarise
from vfnet.config import load_config
from vfnet.data import check_datasets, register_coco_format
from vfnet.errors import UserError
from vfnet.model_zoo import get_config_file
from vfnet.processes import report_errors


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    parser.set_defaults(repeats=3, warm_up=0)
    add = parser.add_argument
    add("--config-file", default=get_config_file("vfnet_R50_1x"))
    add("--drawn", type=int, default=64, metavar="N",
        help="pictures to draw; 0: those of the config's DATASETS.TRAIN")  # fmt: skip
    add("--resize", nargs="+", default=["pil", "cv2"], help="values of INPUT.RESIZE")
    add("--workers", nargs="+", type=int, default=[0, 1, 2])
    add("--batches", type=int, default=50, help="in each repeat")
    add("--profiled", type=int, default=60, metavar="N", help="images to time part by part")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs")
    return parser.parse_args(arguments)


def configs_by_resize(args: argparse.Namespace, folder: Path) -> dict[str, CfgNode]:
    """The config with each way to resize; its data are drawn into `folder`, if they are drawn."""
    options = list(args.opts)
    if args.drawn < 0:
        raise UserError(f"--drawn must not be negative, got {args.drawn}")
    if args.drawn:
        data = ["coco_like", str(write_coco_like(folder, args.drawn)), str(folder)]
        options += ["DATASETS.COCO_FORMAT", str([data]), "DATASETS.TRAIN", "('coco_like',)"]
    cfgs = {}
    for resize in args.resize:
        cfg = load_config(args.config_file, [*options, "INPUT.RESIZE", resize])
        register_coco_format(cfg)
        check_datasets(cfg.DATASETS.TRAIN)
        cfgs[resize] = cfg
    return cfgs


def time_loaders(
    args: argparse.Namespace, cfgs: dict[str, CfgNode]
) -> tuple[dict[str, dict[str, Value]], Samples]:
    """Results and samples by number of workers, with a row for each way to resize."""
    results: dict[str, dict[str, Value]] = {}
    samples: Samples = {}
    for resize, cfg in cfgs.items():
        found = time_loader(cfg, args.workers, args.batches, args.repeats)
        for name, rows in with_rates(found).items():
            results.setdefault(name, {}).update({f"{resize}, {r}": v for r, v in rows.items()})
            kept = samples.setdefault(name, {})
            kept.update({f"{resize}, {part}": seconds for part, seconds in found[name].items()})
    return results, samples


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    content: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cfgs = configs_by_resize(args, Path(folder))
        parts = profile_loading(cfgs, args.profiled)
        rates, samples = time_loaders(args, cfgs)
    print(f"{describe(args.device)}\n")
    print(f"{table(rates, 'median (quartiles)')}\n")
    print(table(summarise(parts), "one process, an image"))
    if args.json:
        content = {**as_json(rates, samples), "parts": as_json(summarise(parts), parts)}
        write_report(args.json, args.device, content)


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
