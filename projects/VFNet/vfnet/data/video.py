"""Videos, read and written by OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import UserError
from ..utils.text import printable

# Where a video does not say how many frames a second it has.
_USUAL_RATE = 25.0


def read_frames(file: str) -> Iterator[np.ndarray]:
    """Yield the frames of a video, (H, W, 3) uint8, BGR, turned upright as the file says.

    Raises:
        UserError: the file is missing, or OpenCV cannot read a frame of it. (OpenCV does not tell
            a damaged frame from the end: what follows one is not read.)
    """
    with _capture(file) as video:
        number = 0
        while True:
            there, frame = video.read()
            if not there:
                break
            yield frame
            number += 1
    if number == 0:
        raise UserError(f"{printable(file)} holds no frame that OpenCV can read")


def video_size(file: str) -> tuple[float, int]:
    """Return the frames a second of a video and their number, which is 0 where it does not say.

    Raises:
        UserError: the file is missing, or no video that OpenCV can read.
    """
    with _capture(file) as video:
        rate, number = video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)
    return rate if 0 < rate < 1000 else _USUAL_RATE, max(int(number), 0)


@contextmanager
def _capture(file: str) -> Iterator[Any]:
    if not os.path.isfile(file):
        raise UserError(f"expected a video, {printable(file)} is not there or no regular file")
    if printable(file) != file:
        raise UserError(f"OpenCV opens no file of such a name: rename {printable(file)}")
    video = cv2.VideoCapture(file)
    try:
        if not video.isOpened():
            raise UserError(f"expected a video that OpenCV can read: {printable(file)}")
        yield video
    finally:
        video.release()


class VideoWriter:
    """Writes frames to an .mp4 file, which is there, whole, when the `with` block has ended.

    After an exception nothing is left of it, as of `write_aside`.
    """

    def __init__(self, path: Path, rate: float):
        """`rate`: frames a second."""
        self.path, self.rate = path, rate
        self._aside = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
        self._video: Any = None
        self._size = (0, 0)

    def __enter__(self) -> VideoWriter:
        return self

    def add(self, frame: np.ndarray) -> None:
        """Append a frame (H, W, 3) uint8, BGR; all have the size of the first.

        Raises:
            UserError: OpenCV cannot write such a video.
        """
        if self._video is None:
            self._size = (frame.shape[1], frame.shape[0])
            codec = cv2.VideoWriter_fourcc(*"mp4v")
            self._video = cv2.VideoWriter(str(self._aside), codec, self.rate, self._size)
            if not self._video.isOpened():
                raise UserError(f"OpenCV cannot write a video to {printable(str(self.path))}")
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size)
        self._video.write(frame)

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        if self._video is not None:
            self._video.release()
            if error is None:
                os.replace(self._aside, self.path)
        self._aside.unlink(missing_ok=True)
