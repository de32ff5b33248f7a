"""The cells of a level that lie nearest the centres of boxes: ATSS's candidates.

Of cells equally near, the first. Of boxes that claim one location: claims.py.
Naming convention: M = boxes, k = cells wanted of a level.
"""

import torch
from torch import Tensor

# Distances that are looked at together where cells are closed.
_DISTANCES = 1 << 22


def nearest_cells(
    centres: Tensor, height: Tensor, width: Tensor, stride: int, topk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The cells of a level nearest each centre; the cost grows with M alone.

    The topk cells nearest a point, along one axis, are consecutive; those of the plane lie in the
    product of both runs, since whatever is farther along an axis has topk nearer cells before it.

    Args:
        centres: (M, 2), x and y in pixels.
        height, width: (M,) int64, cells that each box's image has of the level.
        stride: pixels a cell.
        topk: k.

    Returns:
        row, column: (k, M) int64, the nearest first, of equally near ones the lower cell.
        exists: (k, M) bool, False where the image has fewer cells; these come last.
    """
    first_row, distance_y = _window_along(centres[:, 1], height, stride, topk)
    first_column, distance_x = _window_along(centres[:, 0], width, stride, topk)
    distance = (distance_x.square()[:, None, :] + distance_y.square()[:, :, None]).sqrt()
    cell = _lowest(distance, topk)  # (M, k)
    row = (first_row[:, None] + cell // topk).T
    column = (first_column[:, None] + cell % topk).T
    return row, column, (row < height) & (column < width)


def nearest_open_cells(
    centres: Tensor, is_open: Tensor, image: Tensor, stride: int, topk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`nearest_cells` of a level with closed cells, wherever they are.

    Every cell is looked at for every box, of some boxes at a time.

    Args:
        centres, stride, topk: as in `nearest_cells`.
        is_open: (N, H, W) bool, of each image.
        image: (M,) int64, that of each box.

    Returns:
        as `nearest_cells`, but k is at most H x W.
    """
    height, width = is_open.shape[1:]
    y = torch.arange(height, device=centres.device) * stride
    x = torch.arange(width, device=centres.device) * stride
    found = []
    at_once = max(_DISTANCES // (height * width), 1)
    for centre, own in zip(centres.split(at_once), image.split(at_once)):
        distance_y, distance_x = y - centre[:, 1:], x - centre[:, :1]
        distance = (distance_x.square()[:, None, :] + distance_y.square()[:, :, None]).sqrt()
        distance.masked_fill_(~is_open[own], float("inf"))
        found.append(_lowest(distance, min(topk, height * width)))
    cell = torch.cat(found).T
    row, column = cell // width, cell % width
    return row, column, is_open[image, row, column]


def _lowest(distance: Tensor, count: int) -> Tensor:
    """The cells of the lowest distances, of equal ones the lower cell: (M, H, W) -> (M, count)."""
    cells = distance[0].numel() if len(distance) else 1
    # Floats that are not negative sort as their bits do. With the cell's number behind them, which
    # ascends with its location, the lower location wins where distances tie.
    order = torch.arange(cells, device=distance.device)
    key = distance.view(torch.int32).flatten(1).long() * cells + order
    return key.topk(count, largest=False).values % cells


def _window_along(centre: Tensor, size: Tensor, stride: int, topk: int) -> tuple[Tensor, Tensor]:
    """Where topk cells begin along one axis (M,), and their distances in pixels (M, topk).

    `centre` and `size`, the cells that there are, are (M,); other cells are infinitely far.
    """
    first = (centre / stride - topk / 2).ceil().clamp(min=0)
    first = torch.minimum(first, (size - topk).clamp(min=0)).long()
    cell = first[:, None] + torch.arange(topk, device=centre.device)
    distance = cell * stride - centre[:, None]
    return first, distance.masked_fill_(cell >= size[:, None], float("inf"))
