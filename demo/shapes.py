#!/usr/bin/env python3
"""Train a small VFNet on the embedded shapes, score it, draw what it finds, plot how it learned.

python demo/shapes.py --output output/shapes
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "demo" / "shapes_R18.yaml"
DATASET = "shapes_val"
NUM_DRAWN = 8
# Lower ones, of which an object often has several, would hide it under their labels.
LOWEST_SCORE_DRAWN = 0.4


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path("output/shapes"), help="folder (default output/shapes)"
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="config overrides of the training: KEY VALUE pairs"
    )
    return parser.parse_args()


def run_script(script: str, *arguments: object) -> None:
    """Run a script of this repository; end with its exit status if it fails."""
    command = [sys.executable, ROOT / script, *arguments]
    status = subprocess.run([str(part) for part in command]).returncode
    if status:
        sys.exit(status)


def last_ap(metrics: Path) -> float:
    """Return the AP of the last evaluation, in percent."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return [row["bbox/AP"] for row in rows if "bbox/AP" in row][-1]


def main() -> None:
    args = parse_arguments()
    output = args.output
    metrics, sheet, plot = output / "metrics.json", output / "shapes.png", output / "training.png"
    # Detectron2 appends to it: an earlier run would stand in this one's plot.
    metrics.unlink(missing_ok=True)

    start = time.perf_counter()
    run_script("train_net.py", "--config-file", CONFIG, *args.opts, "OUTPUT_DIR", output)
    minutes = (time.perf_counter() - start) / 60
    model = ("--config-file", output / "config.yaml", "--dataset", DATASET)
    results = output / "inference" / "coco_instances_results.json"
    drawing = ("--predictions", results, "--count", NUM_DRAWN, "--output", sheet)
    score = ("--confidence-threshold", LOWEST_SCORE_DRAWN)
    run_script("tools/draw_predictions.py", *model, *drawing, *score)
    run_script("tools/plot_run.py", output, "--output", plot)

    print(f"AP on {DATASET}: {last_ap(metrics):.1f} (0.50:0.95) after {minutes:.1f} minutes")
    print(f"Predictions beside the ground truth: {sheet}")
    print(f"Losses and AP over training: {plot}")
    print(f"Weights and config: {output / 'model_final.pth'}, {output / 'config.yaml'}")


if __name__ == "__main__":
    main()
