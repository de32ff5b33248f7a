"""Which files of a folder are pictures or videos, by their names."""

import os
from pathlib import PurePath

# Lower case; `is_picture` and `is_video` take any.
PICTURE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")


def is_picture(path: str | os.PathLike) -> bool:
    """Whether a name ends as a picture's; not a hidden file's, as macOS's `._x.jpg`."""
    return _ends_in(path, PICTURE_SUFFIXES) and not PurePath(path).name.startswith(".")


def is_video(path: str | os.PathLike) -> bool:
    """Whether a name ends as a video's."""
    return _ends_in(path, VIDEO_SUFFIXES)


def _ends_in(path: str | os.PathLike, suffixes: tuple[str, ...]) -> bool:
    return PurePath(path).suffix.lower() in suffixes
