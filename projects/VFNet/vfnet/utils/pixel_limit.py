"""How large a picture this process reads at most; Pillow has one limit for a whole process."""

from PIL import Image

from ..errors import UserError


def limit_pixels(max_pixels: int) -> None:
    """Refuse larger pictures in this process from now on: INPUT.MAX_PIXELS.

    Raises:
        UserError: it is no positive integer.
    """
    if not isinstance(max_pixels, int) or max_pixels < 1:
        raise UserError(f"INPUT.MAX_PIXELS has to be a positive integer; got {max_pixels!r}")
    # Pillow refuses what has more than twice its own limit.
    Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)
