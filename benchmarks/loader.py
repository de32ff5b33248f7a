#!/usr/bin/env python3
"""Images a second of the training loader, by its number of workers.

    python benchmarks/loader.py                       # the drawn shapes
    python benchmarks/loader.py --config-file configs/own_data.yaml --opts \\
        DATASETS.COCO_FORMAT "[['my_train','train.json','images']]" DATASETS.TRAIN "('my_train',)"
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

from vfnet.data import check_datasets, register_coco_format
from vfnet.engine import load_config, report_errors
from vfnet.evaluation.benchmark_cases import get_parser, report
from vfnet.evaluation.benchmark_data import time_loader, with_rates
from vfnet.model_zoo import get_config_file


def parse_arguments(arguments: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = get_parser(__doc__)
    parser.set_defaults(repeats=3, warm_up=0)
    parser.add_argument("--config-file", default=get_config_file("demo/shapes_R18"))
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--batches", type=int, default=50, help="in each repeat")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs")
    return parser.parse_args(arguments)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    args = parse_arguments(arguments)
    cfg = load_config(args.config_file, args.opts)
    register_coco_format(cfg)
    check_datasets(cfg.DATASETS.TRAIN)
    samples = time_loader(cfg, args.workers, args.batches, args.repeats)
    report(args, with_rates(samples), samples)


if __name__ == "__main__":
    with report_errors():
        main(sys.argv[1:])
