"""What to look at: files, folders, patterns and videos become pictures, read one by one."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import UserError
from ..utils.files import is_special_file
from ..utils.text import printable
from .file_names import PICTURE_SUFFIXES, is_picture, is_video
from .picture_input import PictureInput, load_picture
from .video import read_frames


class Picture(NamedTuple):
    """A name, and pixels (H, W, 3) uint8 in BGR order.

    The name is the path as it was given; of a video's frame FILE#NUMBER, from 0; of an array or a
    PIL image its number among the sources.
    """

    name: str
    image: np.ndarray


Skip = Callable[[str, UserError], None]


def expand_sources(
    sources: PictureInput | Iterable[PictureInput],
) -> Iterator[PictureInput]:
    """Yield pictures and videos of one source or many: paths are expanded as by `find_files`.

    What yields sources without end, as a camera may, is taken one by one.

    Raises:
        UserError: as `find_files`.
    """
    if isinstance(sources, (str, os.PathLike, np.ndarray, Image.Image)):
        sources = [sources]
    for source in sources:
        if isinstance(source, (str, os.PathLike)):
            yield from find_files([source])
        else:
            yield source


def find_files(inputs: Sequence[str | os.PathLike]) -> list[Path]:
    """Expand files, folders of pictures and patterns to files, each once, in the order given.

    A pattern is one of `glob`, with ** for folders in folders. Of a folder the pictures are taken,
    by their names; hidden ones, videos and folders in it are not.

    Raises:
        UserError: an input names nothing or no regular file, or a folder holds no picture.
    """
    files: dict[Path, Path] = {}  # resolved path -> path as given
    for given in map(str, inputs):
        paths = [Path(given)]
        if not os.path.exists(given):
            matches = sorted(glob.glob(os.path.expanduser(given), recursive=True))
            paths = [Path(match) for match in matches]
        if not paths:
            raise UserError(
                f"expected a picture, a video, a folder or a pattern, found nothing at "
                f"{printable(given)}"
            )
        for path in paths:
            for file in pictures_of_folder(path) if path.is_dir() else [path]:
                if is_special_file(file):
                    raise UserError(f"{printable(str(file))} is no regular file")
                files.setdefault(file.resolve(), file)
    return list(files.values())


def pictures_of_folder(folder: Path) -> list[Path]:
    """Return the pictures in a folder, sorted by name.

    Raises:
        UserError: there is none.
    """
    pictures = sorted(path for path in folder.iterdir() if is_picture(path) and path.is_file())
    if not pictures:
        raise UserError(
            f"expected pictures ({', '.join(PICTURE_SUFFIXES)}) in {printable(str(folder))}, "
            "found none"
        )
    return pictures


def read_pictures(
    sources: Iterable[PictureInput | Picture], skip: Skip | None = None
) -> Iterator[Picture]:
    """Read pictures, and the frames of videos, one after the other.

    Args:
        sources: paths of pictures or videos, pixels, or PIL images.
        skip: called with the name and the error of each that cannot be read, which is left out.
            None: its error is raised.

    Raises:
        UserError: a source cannot be read: see `load_picture` and `read_frames`.
    """
    for number, source in enumerate(sources):
        if isinstance(source, Picture):
            yield source
            continue
        is_path = isinstance(source, (str, os.PathLike))
        name = str(source) if is_path else str(number)
        try:
            if is_path and is_video(name):
                for frame, image in enumerate(read_frames(name)):
                    yield Picture(frame_name(name, frame), image)
            else:
                yield Picture(name, load_picture(source))
        except UserError as error:
            if skip is None:
                raise
            skip(name, error)


def frame_name(video: str, number: int) -> str:
    """Return the name of a video's frame; numbers have six digits, so that names sort in order."""
    return f"{video}#{number:06d}"
