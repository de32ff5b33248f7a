#!/usr/bin/env python3
"""Study what a perfect part of a detector's predictions would be worth: the paper's Table 1.

    python tools/oracle.py --config-file output/own_data/config.yaml --output oracle.json \
        --opts MODEL.WEIGHTS output/own_data/model_final.pth

At the positive locations of the training assignment, boxes or scores are replaced by ground truth
before suppression, and the first data set of DATASETS.TEST is scored again.
"""

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from vfnet.data import register_test_sets
from vfnet.errors import UserError
from vfnet.evaluation.oracle import (
    METRICS,
    annotated_records,
    build_annotated_loader,
    check_oracle_model,
    oracle_scores,
)
from vfnet.predictor import build_predictor, load_prediction_config
from vfnet.processes import report_errors
from vfnet.utils.files import write_aside

LABELS = {
    "plain": "nothing replaced",
    "gt_bbox": "gt box",
    "gt_cls": "gt class",
    "gt_cls_only": "gt class, other classes 0",
    "gt_cls_iou": "gt IoU",
    "gt_cls_iou_only": "gt IoU, other classes 0",
    "plain_ctr": "with centerness: nothing replaced",
    "gt_ctr": "with gt centerness",
    "gt_ctr_iou": "with gt IoU as centerness",
    "gt_bbox_ctr": "with centerness: gt box",
    "gt_cls_ctr": "with centerness: gt class",
    "gt_cls_iou_ctr": "with centerness: gt IoU",
}
# AP on COCO val2017 as printed in the paper.
PUBLISHED_FOR = "published for FCOS+ATSS R-50"
PUBLISHED = {
    **{"plain": 38.5, "gt_bbox": 56.1, "gt_cls": 43.1, "gt_cls_iou": 74.7},
    **{"plain_ctr": 39.2, "gt_ctr": 41.1, "gt_ctr_iou": 43.5},
    **{"gt_bbox_ctr": 56.3, "gt_cls_ctr": 58.1, "gt_cls_iou_ctr": 67.4},
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="yaml of the model")
    parser.add_argument("--num-images", type=int, help="spread over the data set (default: all)")
    parser.add_argument("--output", type=Path, help="json to write")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE pairs"
    )
    return parser.parse_args()


def table(scores: dict[str, dict[str, float]]) -> str:
    """Return a markdown table, a row for each kind of replacement.

    Args:
        scores: kind -> AP, AP50 and AP75, in percent.
    """
    lines = [f"| row | {' | '.join(METRICS)} | {PUBLISHED_FOR} |", "|---|---|---|---|---|"]
    for kind, values in scores.items():
        cells = [f"{values[name]:.1f}" for name in METRICS] + [str(PUBLISHED.get(kind, ""))]
        lines.append(f"| {LABELS[kind]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    args = parse_arguments()
    if args.num_images is not None and args.num_images < 1:
        raise UserError(f"expected --num-images of at least 1, got {args.num_images}")
    cfg = load_prediction_config(args.config_file, args.opts)
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: name an annotated data set in it")
    dataset = cfg.DATASETS.TEST[0]
    # A dumped config has its class names already; here the pictures are needed as well.
    register_test_sets(cfg)
    cfg.TEST.AUG.ENABLED = False  # the study needs the model itself
    cfg.freeze()
    records = annotated_records(cfg, dataset, args.num_images or 0)
    model = build_predictor(cfg).model
    check_oracle_model(model)
    if args.output:  # before the long part
        if args.output.is_dir():
            raise UserError(f"expected a file to write, got the folder {args.output}: add a name")
        try:
            args.output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{args.output} cannot be written ({error}): choose another") from error

    batches = tqdm(build_annotated_loader(cfg, records), disable=None)
    scores = oracle_scores(model, batches, dataset, cfg.TEST.DETECTIONS_PER_IMAGE)
    print(f"{len(records)} images of {dataset}, {cfg.MODEL.WEIGHTS}\n\n{table(scores)}\n")
    print("gt: ground truth at the positive locations, before suppression")
    if args.output:
        rows = {
            kind: {**values, "published_fcos_atss_r50": PUBLISHED.get(kind)}
            for kind, values in scores.items()
        }
        content = {
            "dataset": dataset,
            "num_images": len(records),
            "weights": cfg.MODEL.WEIGHTS,
            "rows": rows,
        }
        with write_aside(args.output) as stream:
            stream.write(json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    with report_errors():
        main()
