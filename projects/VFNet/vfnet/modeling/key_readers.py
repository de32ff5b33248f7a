"""Keys that only some classes read: beside others Detectron2 ignores them, or fails when it trains.

Its own classes are not ours to check them in, so a run checks them before it starts.
"""

from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.proposal_generator import PROPOSAL_GENERATOR_REGISTRY

from ..errors import UserError
from .proposal_generator import BoundedRPN
from .roi_heads import LibraROIHeads


def check_key_readers(cfg: CfgNode) -> None:
    """Check that the classes that a config names do what its keys ask for.

    Raises:
        UserError: a key asks for something that only another class does.
    """
    model = cfg.MODEL
    if model.META_ARCHITECTURE == "RetinaNet":
        _check_retinanet(model.RETINANET)
    libra = ("ROI_HEADS", ROI_HEADS_REGISTRY, LibraROIHeads)
    rpn = ("PROPOSAL_GENERATOR", PROPOSAL_GENERATOR_REGISTRY, BoundedRPN)
    balanced = model.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE == "balanced_l1"
    for asked, key, section, registry, reader in (
        (model.ROI_HEADS.SAMPLER != "random", "ROI_HEADS.SAMPLER", *libra),
        (balanced, "ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", *libra),
        (model.RPN.NEGATIVES_PER_POSITIVE != 0, "RPN.NEGATIVES_PER_POSITIVE", *rpn),
    ):
        name = model[section].NAME
        # A name that is not registered is an error when the model is built.
        if asked and name in registry and not _is_a(registry.get(name), reader):
            node, _, last = key.partition(".")
            raise UserError(
                f"MODEL.{key} {model[node][last]!r} needs MODEL.{section}.NAME {reader.__name__}, "
                f"got {name}, which does not read it: set that, or leave MODEL.{key} at its default"
            )


def _check_retinanet(node: CfgNode) -> None:
    """Detectron2's own RetinaNet reads none of the keys that are added to its node."""
    balanced = node.BBOX_REG_LOSS_TYPE == "balanced_l1"
    for asked, key in (
        (node.CLS_LOSS != "focal", "CLS_LOSS"),
        (node.CLS_LOSS_WEIGHT != 1.0, "CLS_LOSS_WEIGHT"),
        (node.LOSS_NORMALIZER != "ema", "LOSS_NORMALIZER"),
        (node.IGNORE_IOF_THRESH >= 0, "IGNORE_IOF_THRESH"),
        (balanced, "BBOX_REG_LOSS_TYPE"),
    ):
        if asked:
            raise UserError(
                f"MODEL.RETINANET.{key} {node[key]!r} needs MODEL.META_ARCHITECTURE "
                "QualityRetinaNet, got RetinaNet, which does not read it: set that, or leave "
                f"MODEL.RETINANET.{key} at its default"
            )


def _is_a(registered: Any, reader: type) -> bool:
    return isinstance(registered, type) and issubclass(registered, reader)
