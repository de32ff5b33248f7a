"""A file that someone uploaded becomes a picture, or a sentence on what is wrong with it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data.checks.pictures import DECODE_ERRORS
from ..data.picture_input import load_picture
from ..errors import UserError

# Not all that Pillow reads: EPS, for one, runs a program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MOST_MEGABYTES = 32
MOST_MEGAPIXELS = 50
_LONGEST_NAME = 60


class Upload(NamedTuple):
    """Where an uploaded file lies, and what it was called by whoever uploaded it."""

    path: str
    name: str

    @property
    def stem(self) -> str:
        """A name for files made of it: letters, digits, "-" and "_"."""
        letters = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(self.name).stem)
        return letters[:_LONGEST_NAME] or "picture"


def read_upload(upload: Upload) -> np.ndarray:
    """Return the pixels of an uploaded picture, (H, W, 3) uint8, BGR, turned upright.

    What kind of file it is says its content, not its name. The size is read from the header,
    before memory is taken for the pixels.

    Raises:
        UserError: no picture of `FORMATS`, a damaged one, a larger one, more than 8 bits a channel.
            No message names a path.
    """
    try:
        with Image.open(upload.path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_MEGAPIXELS * 1e6:
                raise _too_large(f"has {width} x {height}")
            return load_picture(image)
    except Image.DecompressionBombError as error:
        raise _too_large("has many more") from error
    except UserError:
        raise
    except DECODE_ERRORS as error:
        raise UserError(
            f"expected a picture ({', '.join(FORMATS)}), but {upload.name} is none, or is damaged"
        ) from error


def _too_large(size: str) -> UserError:
    return UserError(
        f"expected a picture of at most {MOST_MEGAPIXELS} million pixels; this one {size}: "
        "make it smaller, or cut it into parts"
    )
