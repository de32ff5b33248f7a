"""RetinaNet's head, whose names are Detectron2's here.

A location has 3 x 3 anchors. mmdet goes through them ratio by ratio, and through the sizes of each;
Detectron2 size by size, and through the ratios of each. Both sort the outputs of the last layers
by anchor.
"""

import torch

from .....errors import UserError
from ..rule import Rule, Table

_SIZES = _RATIOS = 3
_MOST_CONVS = 16  # of a tower; published ones have 4


def _swap_sizes_and_ratios(values: torch.Tensor) -> torch.Tensor:
    """The outputs (9 C, ...) of either side in the other's order: twice is as it was."""
    if values.shape[0] % (_SIZES * _RATIOS):
        raise UserError(
            f"expected a RetinaNet with anchors of {_SIZES} sizes and {_RATIOS} ratios at a "
            f"location, whose outputs go by {_SIZES * _RATIOS}; got {values.shape[0]} outputs"
        )
    by_anchor = values.unflatten(0, (_SIZES, _RATIOS, -1))
    return by_anchor.transpose(0, 1).flatten(0, 2)


def _tower(mmdet: str, ours: str) -> list[Rule]:
    """Convolutions, which ours numbers together with the activations between them."""
    return [
        Rule(f"bbox_head.{mmdet}.{i}.conv.{{affine}}", f"head.{ours}.{2 * i}.{{affine}}")
        for i in range(_MOST_CONVS)
    ]


def _output(mmdet: str, ours: str) -> Rule:
    swap = _swap_sizes_and_ratios
    return Rule(f"bbox_head.{mmdet}.{{affine}}", f"head.{ours}.{{affine}}", swap, swap)


TABLE = Table(
    detector="RetinaNet",
    mmdet=r"bbox_head\.retina_",
    ours=r"head\.((cls|bbox)_subnet|cls_score|bbox_pred)\.",
    rules=[
        *_tower("cls_convs", "cls_subnet"),
        *_tower("reg_convs", "bbox_subnet"),
        _output("retina_cls", "cls_score"),
        _output("retina_reg", "bbox_pred"),
    ],
)
