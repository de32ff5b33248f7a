"""Put together what a run left in its folder, and write it as one page."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jinja2
from detectron2.config import CfgNode
from markupsafe import Markup

from ..config import load_config
from ..errors import UserError
from ..evaluation.precision_recall import ClassCurve, class_scores
from ..inspection.run import Evaluation, curves_of_evaluation, read_evaluation, read_metrics
from ..inspection.run_figure import panels_of_run
from ..utils.files import write_aside
from ..utils.text import one_line, printable
from .commands import commands_for
from .curves import draw_svg
from .log import LogStory, read_log
from .pictures import Shown, shown_pictures
from .scores import Row, best_and_last, rows_of_metrics, rows_of_scores
from .settings import settings_of

NAME = "run.html"
_CHECKPOINTS = (".pth", ".safetensors")
# What a run's weights are called, the ones to go on with first.
_WEIGHTS = ("model_best.pth", "model_ema.pth", "model_swa.pth", "model_final.pth")
T = TypeVar("T")


class Checkpoint(NamedTuple):
    """A file of weights: its name, MiB, when it was written."""

    name: str
    mebibytes: float
    written: datetime


def write_page(folder: Path, output: Path | None = None) -> Path:
    """Write `run.html` of a run, finished or not, and return its path.

    The page needs nothing but itself: pictures and curves are in it, and no script.

    Args:
        folder: the run's OUTPUT_DIR, wherever it is now.
        output: another file for the page.

    Raises:
        UserError: there is no run's config in the folder, or the page cannot be written.
    """
    text = _template().render(collect(folder))
    page = output or folder / NAME
    try:
        with write_aside(page) as stream:
            stream.write(text.encode("utf-8", errors="replace"))
    except OSError as error:
        raise UserError(f"{page} cannot be written ({error}): choose another") from error
    return page


def collect(folder: Path) -> dict[str, Any]:
    """Return what the template shows; what is not there is empty, and `notes` say why.

    Raises:
        UserError: there is no run's config in the folder.
    """
    cfg = load_config(str(folder / "config.yaml"))
    log = read_log(folder / "log.txt")
    notes: list[str] = []
    metrics = _unless_missing(lambda: read_metrics(folder / "metrics.json"), notes) or []
    done = min(int(metrics[-1]["iteration"]) + 1, cfg.SOLVER.MAX_ITER) if metrics else 0
    # More than MAX_ITER, where it was lowered below what had been trained.
    done = max(done, log.starts[-1].iteration if log.starts else 0)
    # Detectron2 counts from 0, but writes the evaluation after the last iteration with its number.
    metrics = [
        {**row, "iteration": row["iteration"] - (row["iteration"] == done)} for row in metrics
    ]
    evaluation = _unless_missing(lambda: read_evaluation(folder), notes)
    curves, rows, pictures = _compare(evaluation, notes)
    dataset = evaluation.dataset if evaluation else ""
    panels = panels_of_run(metrics, curves, dataset) if metrics else []
    checkpoints = _checkpoints(folder)
    weights = _weights(checkpoints)
    facts = log.starts[-1].facts if log.starts else {}
    return {
        "title": folder.resolve().name,
        "detector": cfg.MODEL.META_ARCHITECTURE,
        "status": _status(done, cfg.SOLVER.MAX_ITER, log),
        "dataset": dataset or next(iter(cfg.DATASETS.TEST), ""),
        "times": _times(log),
        "aps": best_and_last(metrics),
        "panels": [Markup(draw_svg(draw, number)) for number, draw in enumerate(panels)],
        "rows": rows or rows_of_metrics(metrics),
        "pictures": pictures,
        "warnings": {one_line(text): count for text, count in log.warnings.items()},
        "notes": [one_line(note) for note in notes],
        "commands": commands_for(folder, cfg, facts, weights, _picture(pictures)),
        "checkpoints": checkpoints,
        "versions": _versions(log, facts, cfg),
        "settings": settings_of(cfg),
        "config": printable_lines(cfg.dump()),
    }


def printable_lines(text: str) -> str:
    """Text whose lines are `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vfnet.run_page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Names are data: no line ends and no controls within a line of the page.
    environment.filters["name"] = printable
    return environment.get_template("page.html")


def _unless_missing(read: Callable[[], T], notes: list[str]) -> T | None:
    """Read a part of the story; where it cannot be, note why and go on without."""
    try:
        return read()
    except UserError as error:
        notes.append(str(error))
        return None


def _compare(
    evaluation: Evaluation | None, notes: list[str]
) -> tuple[list[ClassCurve], list[Row], list[Shown]]:
    """The curves and APs of each class, and pictures, as far as detections are there."""
    if evaluation is None:
        return [], [], []
    curves = _unless_missing(lambda: curves_of_evaluation(evaluation), notes)
    if curves is None:  # damaged detections
        return [], [], []
    scores = class_scores(
        evaluation.truth, evaluation.results, evaluation.most, evaluation.category_ids
    )
    pictures = _unless_missing(lambda: shown_pictures(evaluation, curves), notes)
    return curves, rows_of_scores(scores), pictures or []


def _status(done: int, max_iter: int, log: LogStory) -> str:
    if done >= max_iter:
        return f"finished after {done:,} iterations"
    words = f"{done:,} of {max_iter:,} iterations are written"
    if log.ending:
        return f"{words}; it ended with: {one_line(log.ending)}"
    return f"{words}: it still runs, or was killed"


def _times(log: LogStory) -> dict[str, str]:
    """When the run began and ended, and how long it trained: its starts together."""
    if not log.starts:
        return {}
    starts = log.starts
    seconds = sum((start.end - start.begin).total_seconds() for start in starts)
    times = {
        "began": f"{starts[0].begin:%Y-%m-%d %H:%M:%S}",
        "ended": f"{starts[-1].end:%Y-%m-%d %H:%M:%S}",
        "took": str(timedelta(seconds=round(seconds))),
    }
    if len(starts) > 1:
        times["started"] = f"{len(starts)} times, at iteration " + ", ".join(
            str(start.iteration) for start in starts
        )
    return times


def _versions(log: LogStory, facts: dict[str, Any], cfg: CfgNode) -> dict[str, str]:
    versions = {"vfnet": str(facts["vfnet"])} if "vfnet" in facts else {}
    for name, text in log.environment.items():
        versions[name] = text.split()[0] if name == "Python" else text.partition(" @")[0]
    processes = f", {facts['processes']} processes" if facts.get("processes", 1) != 1 else ""
    return {**versions, "device": f"{cfg.MODEL.DEVICE}{processes}"}


def _checkpoints(folder: Path) -> list[Checkpoint]:
    found = []
    for file in sorted(folder.iterdir()):
        if file.suffix in _CHECKPOINTS and not file.name.startswith("."):
            with suppress(OSError):  # removed meanwhile
                status = file.stat()
                written = datetime.fromtimestamp(status.st_mtime)
                found.append(Checkpoint(file.name, status.st_size / 2**20, written))
    return found


def _weights(checkpoints: list[Checkpoint]) -> str:
    """The file to go on with: the best, the run's end, else the newest."""
    names = {checkpoint.name for checkpoint in checkpoints}
    newest = max(checkpoints, key=lambda c: c.written, default=None)
    return next((w for w in _WEIGHTS if w in names), newest.name if newest else _WEIGHTS[-1])


def _picture(pictures: list[Shown]) -> str:
    """The path of a test picture to predict on; the drawn shapes are no files."""
    files = [os.path.abspath(p.file) for p in pictures if os.path.isfile(p.file)]
    return files[0] if files else "picture.jpg"
