"""Where labels stand: beside their boxes, on as little as possible."""

from collections.abc import Sequence

import numpy as np

# What a pixel of a label costs: on another label it cannot be read, in its own box it hides the
# object, in another box it may hide one.
_ON_LABEL, _IN_OWN_BOX, _IN_OTHER_BOX = 20.0, 1.0, 1.0
# Of the label's area, so that equal places are taken in the order in which they are named.
_PER_PLACE = 0.02
# The most of another label that a label may cover, and of the picture that all may.
_MOST_OF_LABEL, _MOST_OF_PICTURE = 0.1, 0.35


def place_labels(
    boxes: np.ndarray, sizes: Sequence[tuple[int, int]], picture: tuple[int, int]
) -> dict[int, np.ndarray]:
    """Choose a place for each label, one after the other: the first are the best served.

    Each stands at one of twelve places at its box, moved into the picture: above, below, inside at
    the top or bottom, flush left or right, or beside it.

    Args:
        boxes: (N, 4) xyxy in pixels.
        sizes: N (width, height) of the labels, in pixels.
        picture: (width, height).

    Returns:
        index of a label -> its xyxy, (4,) int64, for those that found a place.
    """
    found: dict[int, np.ndarray] = {}
    taken = np.zeros((0, 4), dtype=np.int64)
    room = _MOST_OF_PICTURE * picture[0] * picture[1]
    for index, (box, size) in enumerate(zip(boxes, sizes)):
        places = _places_at(box, size, picture)
        on_labels = _overlap(places, taken)
        cost = _ON_LABEL * on_labels.sum(axis=1) + _IN_OWN_BOX * _overlap(places, box[None])[:, 0]
        others = np.delete(boxes, index, axis=0)
        # One box or five: what lies there can be hidden once.
        cost += _IN_OTHER_BOX * _overlap(places, others).max(axis=1, initial=0)
        area = size[0] * size[1]
        cost += _PER_PLACE * area * np.arange(len(places))
        best = cost.argmin()
        if on_labels[best].max(initial=0) <= _MOST_OF_LABEL * area and (area <= room or not found):
            found[index], room = places[best], room - area
            taken = np.concatenate((taken, places[best][None]))
    return found


def _places_at(box: np.ndarray, size: tuple[int, int], picture: tuple[int, int]) -> np.ndarray:
    """Return (12, 4) xyxy, the most usual first."""
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    width, height = size
    lefts, tops = (x1, x2 - width), (y1 - height, y2, y1, y2 - height)
    corners = [(left, top) for top in tops for left in lefts]
    corners += [(left, top) for left in (x2, x1 - width) for top in (y1, y2 - height)]
    places = np.array(corners, dtype=np.int64)
    most = np.maximum(np.array(picture) - size, 0)
    places = np.clip(places, 0, most)
    return np.concatenate((places, places + size), axis=1)


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the shared area of boxes (N, 4) and (M, 4) -> (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=2)
