#!/usr/bin/env python3
"""Train the paper's ablations on a small data set, several seeds each; print mean and spread.

python tools/ablations.py --output output/ablations --seeds 1 2 3

A row is the head and the losses (MODEL.VFNET) of a config in configs/ablation, or of vfnet_R50_1x
("full"), trained with everything else as in --config-file. Runs that are finished are not repeated.
"""

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vfnet.engine import load_config, report_errors
from vfnet.errors import UserError
from vfnet.model_zoo import get_config
from vfnet.utils.files import write_aside

ROOT = Path(__file__).resolve().parents[1]
METRICS = ("AP", "AP50", "AP75")
ROWS = ("raw_focal", "raw", "star_only", "full", "unweighted", "quality_focal", "focal")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", default="configs/demo/shapes_R18_short.yaml")
    parser.add_argument("--output", type=Path, default=Path("output/ablations"))
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="SEED")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    return parser.parse_args()


def overrides(row: str) -> list[str]:
    """Return the KEY VALUE pairs in which a row's MODEL.VFNET differs from the full model's."""
    full = get_config("vfnet_R50_1x").MODEL.VFNET
    changed = full if row == "full" else get_config(f"ablation/vfnet_R50_1x_{row}").MODEL.VFNET
    return [
        text
        for key, value in changed.items()
        if value != full[key]
        for text in (f"MODEL.VFNET.{key}", str(value))
    ]


def final_scores(metrics: Path, max_iter: int) -> dict[str, float]:
    """Return AP, AP50 and AP75 of a finished run's metrics.json; empty: it is not finished."""
    if not metrics.is_file():
        return {}
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    # An evaluation on the way has an iteration below.
    scored = [row for row in rows if "bbox/AP" in row and row["iteration"] >= max_iter]
    return {name: scored[-1][f"bbox/{name}"] for name in METRICS} if scored else {}


def train(config_file: str, row: str, seed: int, folder: Path, dry_run: bool) -> dict[str, float]:
    """Train one row with one seed, unless that is done, and return its scores."""
    metrics, max_iter = folder / "metrics.json", load_config(config_file).SOLVER.MAX_ITER
    if done := final_scores(metrics, max_iter):
        return done
    command = [
        *(sys.executable, str(ROOT / "train_net.py"), "--config-file", config_file),
        *("--resume", "auto", "SEED", str(seed), "OUTPUT_DIR", str(folder), *overrides(row)),
    ]
    print(shlex.join(command), flush=True)
    if dry_run:
        return {}
    status = subprocess.run(command).returncode
    scores = final_scores(metrics, max_iter)
    if status or not scores:
        raise UserError(f"training of {row}, seed {seed}, failed; see {folder / 'log.txt'}")
    return scores


def table(scores: dict[str, list[dict[str, float]]]) -> str:
    """Return a markdown table: mean and standard deviation over the seeds of each row.

    Args:
        scores: row -> scores of each seed.
    """
    lines = ["| row | AP | AP of each seed | AP50 | AP75 |", "|---|---|---|---|---|"]
    for row, runs in scores.items():
        cells = {name: mean_and_spread([run[name] for run in runs]) for name in METRICS}
        each = ", ".join(f"{run['AP']:.1f}" for run in runs)
        lines.append(f"| {row} | {cells['AP']} | {each} | {cells['AP50']} | {cells['AP75']} |")
    return "\n".join(lines)


def mean_and_spread(values: Sequence[float]) -> str:
    """Return "mean ± sample standard deviation"; of a single value there is no spread."""
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.1f}" + ("" if math.isnan(spread) else f" ± {spread:.1f}")


def main() -> None:
    args = parse_arguments()
    unknown = sorted(set(args.rows) - set(ROWS))
    if unknown:
        raise UserError(f"expected rows among {', '.join(ROWS)}; got {', '.join(unknown)}")
    scores: dict[str, list[dict[str, float]]] = {row: [] for row in args.rows}
    for seed in args.seeds:  # every row once before any row twice
        for row in args.rows:
            folder = args.output / Path(args.config_file).stem / row / f"seed{seed}"
            scores[row].append(train(args.config_file, row, seed, folder, args.dry_run))
    if args.dry_run:
        return
    print(table(scores))
    with write_aside(args.output / "ablations.json") as stream:
        stream.write(json.dumps(scores, indent=1).encode())


if __name__ == "__main__":
    with report_errors():
        main()
