"""Predict on many files: read ahead, predict, write behind; to be interrupted and continued."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from detectron2.structures import Instances

from .data.file_names import is_video
from .data.sources import Picture, Skip, read_pictures
from .errors import UserError
from .processes.signals import Stopped
from .utils.text import printable
from .utils.threads import in_background, read_ahead
from .writers import CocoIds, CocoWriter, CsvWriter, RecordWriter, Writer, YoloWriter
from .writers.drawn import DrawingWriter, plan_outputs
from .writers.journal import Journal
from .writers.yolo import check_label_files

SAVE_CHOICES = ("pictures", "coco", "csv", "yolo")
JOURNAL_NAME = "predictions.partial.jsonl"
RECORDS_NAME = "predictions.json"
# Pictures that are read before they are predicted on, and that wait to be written; each may be
# as large as a camera's.
_WAITING = 4


class PicturePredictor(Protocol):
    """What predicts: `Predictor`, or what has the same."""

    class_names: list[str]

    @property
    def category_ids(self) -> list[int] | None:
        """The ids of the classes in the data set, where they are known."""

    @property
    def settings(self) -> dict[str, Any]:
        """What a run that goes on must have the same, as json can hold it."""

    @property
    def pictures_ahead(self) -> int:
        """How many images `predict` is given at once."""

    def predict(self, images: Any) -> list[dict[str, Instances]]:
        """Detect objects in images (H, W, 3) uint8, BGR."""


class Outputs(NamedTuple):
    """What a run writes, into which folder."""

    folder: Path
    save: Sequence[str] = ("pictures",)  # of SAVE_CHOICES, beside predictions.json
    coco_ids: CocoIds | None = None  # of the data set that the pictures are from


class Done(NamedTuple):
    """How a run ended: pictures and frames written, files left out, and what stopped it."""

    written: int
    skipped: int
    status: int  # 130 after Ctrl-C, 143 after SIGTERM, 0 where it came to its end


def predict_files(
    predictor: PicturePredictor,
    files: Sequence[Path],
    outputs: Outputs,
    *,
    resume: bool = False,
    skip: Skip = lambda name, error: None,
    report: Callable[[str, Instances], None] = lambda name, instances: None,
) -> Done:
    """Predict on pictures and videos and write the results.

    What cannot be read is left out. Ctrl-C and, under `report_errors`, SIGTERM end the run: all
    files of results are written for what is done until then, and with `resume` a later run goes on
    behind it. So it does after a kill, which leaves only pictures, labels and JOURNAL_NAME.

    Args:
        predictor: see `PicturePredictor`.
        files: see `vfnet.data.sources.find_files`.
        outputs: what is written.
        resume: go on with a run of the same settings in the same folder.
        skip: called with the name of a file that is left out, and why.
        report: called with each picture's name and detections when it is written, in a thread.

    Raises:
        UserError: results of two files would have one name, or replace an input; a run with other
            settings cannot be continued; nothing can be written to the folder.
    """
    run = _Run(predictor, outputs, files, skip)
    if resume:
        run.journal.resume()
    try:
        return run(files, report)
    except OSError as error:
        raise UserError(f"cannot write to {printable(str(outputs.folder))}: {error}") from error


class _Run:
    def __init__(
        self, predictor: PicturePredictor, outputs: Outputs, files: Sequence[Path], skip: Skip
    ):
        folder, names = outputs.folder, predictor.class_names
        self.predictor, self.outputs = predictor, outputs
        self.skipped = 0
        self._tell = skip
        plan = plan_outputs(files, folder) if "pictures" in outputs.save else None
        self.drawing = None if plan is None else DrawingWriter(plan, names)
        if "yolo" in outputs.save:
            check_label_files([str(file) for file in files])
        if outputs.coco_ids is not None:
            outputs.coco_ids.check_pictures(map(str, files))
        settings = {**predictor.settings, "save": sorted(outputs.save)}
        self.journal = Journal(folder / JOURNAL_NAME, settings, names)

    def __call__(self, files: Sequence[Path], report: Callable[[str, Instances], None]) -> Done:
        self.outputs.folder.mkdir(parents=True, exist_ok=True)
        written, status = 0, 0
        with ExitStack() as stack:
            stack.enter_context(self.journal)
            writers = [stack.enter_context(writer) for writer in self._writers()]
            if self.drawing is not None:
                stack.enter_context(self.drawing)

            def write(picture: Picture, instances: Instances, is_new: bool) -> None:
                # A picture that is done is drawn; a video's frames are drawn again, in their order.
                if self.drawing is not None and picture.image.size:
                    self.drawing.add(picture, instances)
                for writer in writers:
                    writer.add(picture.name, instances)
                if is_new:
                    self.journal.add(picture.name, instances)
                report(picture.name, instances)

            put = stack.enter_context(in_background(write, _WAITING))
            try:
                for result in self._results(read_ahead(self._pictures(files), _WAITING)):
                    put(*result)
                    written += 1
            except KeyboardInterrupt:
                status = 130
            except Stopped:
                status = Stopped.STATUS
        if not status and not self.skipped:
            self.journal.path.unlink()
        return Done(written, self.skipped, status)

    def _writers(self) -> Iterator[Writer]:
        folder, names = self.outputs.folder, self.predictor.class_names
        yield RecordWriter(folder / RECORDS_NAME, names)
        if "coco" in self.outputs.save:
            ids = self.outputs.coco_ids
            yield CocoWriter(
                folder / "coco_instances_results.json",
                names,
                self.predictor.category_ids,
                ids,
                None if ids else folder / "coco_images.json",
            )
        if "csv" in self.outputs.save:
            yield CsvWriter(folder / "predictions.csv", names)
        if "yolo" in self.outputs.save:
            yield YoloWriter(folder, names)

    def _pictures(self, files: Sequence[Path]) -> Iterator[Picture]:
        """Read the files; pictures that are done already are only named."""
        for file in files:
            if not is_video(file) and self.journal.find(str(file)) is not None:
                yield Picture(str(file), np.zeros((0, 0, 3), np.uint8))
            else:
                yield from read_pictures([file], self._skip)

    def _skip(self, name: str, error: UserError) -> None:
        self.skipped += 1
        self._tell(name, error)

    def _results(self, pictures: Iterator[Picture]) -> Iterator[tuple[Picture, Instances, bool]]:
        """Yield each picture, its detections, and whether they are new."""
        while some := list(islice(pictures, self.predictor.pictures_ahead)):
            known = [self.journal.find(picture.name) for picture in some]
            new = [p.image for p, instances in zip(some, known) if instances is None]
            found = iter(self.predictor.predict(new))
            for picture, instances in zip(some, known):
                if instances is None:
                    yield picture, next(found)["instances"], True
                else:
                    yield picture, instances, False
