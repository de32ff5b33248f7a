"""Pictures and videos with their detections drawn on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from detectron2.structures import Instances

from ..data.file_names import is_picture, is_video
from ..data.sources import Picture
from ..data.video import VideoWriter, video_size
from ..errors import UserError
from ..utils.text import printable
from ..visualization import draw_boxes, write_picture


class DrawingWriter:
    """Writes each picture with its boxes; the frames of a video become one .mp4 file."""

    def __init__(self, outputs: Mapping[str, Path], class_names: Sequence[str]):
        """`outputs`: of each file, by its name, where its result goes: see `plan_outputs`."""
        self._outputs = outputs
        self._class_names = class_names
        self._videos = ExitStack()
        self._open = ""
        self._video: VideoWriter | None = None

    def __enter__(self) -> DrawingWriter:
        return self

    def __exit__(self, *error: object) -> bool | None:
        # What there is of a video is kept when its run is interrupted.
        return self._videos.__exit__(*error)  # type: ignore[arg-type]

    def add(self, picture: Picture, instances: Instances) -> None:
        """Draw the detections of a picture, or of a video's next frame, in its pixels."""
        drawn = draw_boxes(
            picture.image[:, :, ::-1],
            instances.pred_boxes.tensor.numpy(),
            instances.pred_classes.tolist(),
            self._class_names,
            instances.scores.tolist(),
        )
        output = self._outputs.get(picture.name)
        if output is not None and not is_video(picture.name):
            write_picture(output, drawn)
            return
        self._video_of(picture.name.rpartition("#")[0]).add(drawn[:, :, ::-1])

    def _video_of(self, name: str) -> VideoWriter:
        if self._video is None or self._open != name:
            self._videos.close()  # of the video before
            rate, _ = video_size(name)
            self._video = self._videos.enter_context(VideoWriter(self._outputs[name], rate))
            self._open = name
        return self._video


def plan_outputs(files: Sequence[Path], folder: Path) -> dict[str, Path]:
    """Return where the result of each file goes, by the file's name.

    Videos become .mp4, pictures of a format that is not written here .png.

    Raises:
        UserError: two results would have one name, or a result would replace an input.
    """
    outputs: dict[Path, Path] = {}  # output -> file
    sources = {file.resolve() for file in files}
    for file in files:
        if is_video(file):
            output = folder / f"{file.stem}.mp4"
        else:
            output = folder / (file.name if is_picture(file) else f"{file.name}.png")
        shown = printable(str(output))
        if output in outputs:
            raise UserError(
                f"{printable(str(outputs[output]))} and {printable(str(file))} would both be "
                f"written to {shown}: run them apart, with different --output folders"
            )
        if output.resolve() in sources:
            raise UserError(f"{shown} is an input and would be replaced: choose another --output")
        outputs[output] = file
    return {str(file): output for output, file in outputs.items()}
