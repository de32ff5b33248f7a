#!/usr/bin/env python3
"""Plot a run: losses, rate and AP over iterations, precision and recall of each class.

python tools/plot_run.py output/shapes

Precision and recall are those of the last evaluation's detections, where they and the ground truth
are there.
"""

import argparse
import sys
from pathlib import Path

from vfnet.errors import UserError
from vfnet.inspection.figures import write_figure
from vfnet.inspection.run import curves_of_run, read_metrics
from vfnet.inspection.run_figure import draw_run
from vfnet.processes import report_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, help="OUTPUT_DIR of the run")
    parser.add_argument(
        "--output", type=Path, help="picture to write (default: training.png in there)"
    )
    parser.add_argument("--dataset", help="default: the run's first test dataset")
    args = parser.parse_args()
    metrics = read_metrics(args.run_dir / "metrics.json")
    try:
        dataset, curves = curves_of_run(args.run_dir, args.dataset)
    except UserError as error:
        if args.dataset:
            raise
        # A run without an evaluation, or away from its data, still has its losses.
        print(f"without precision and recall: {error}", file=sys.stderr)
        dataset, curves = "", []
    output = args.output or args.run_dir / "training.png"
    write_figure(output, draw_run(metrics, curves, dataset))
    print(f"{args.run_dir}: {output}")


if __name__ == "__main__":
    with report_errors():
        main()
