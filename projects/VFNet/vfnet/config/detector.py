"""What a config says of its detector, whichever that is: its node, its classes, its numbers."""

from detectron2.config import CfgNode

from ..errors import UserError


def detector_key(cfg: CfgNode) -> str:
    """The key of the node that describes the configured detector, such as "MODEL.VFNET".

    It is called as MODEL.META_ARCHITECTURE in capitals; QualityRetinaNet has Detectron2's
    RETINANET, and GeneralizedRCNN has its classes in ROI_HEADS.

    Raises:
        UserError: there is no such node.
    """
    architecture = cfg.MODEL.META_ARCHITECTURE
    others = {"GeneralizedRCNN": "ROI_HEADS", "QualityRetinaNet": "RETINANET"}
    name = others.get(architecture, architecture.upper())
    if name not in cfg.MODEL:
        raise UserError(
            f"MODEL.META_ARCHITECTURE {architecture} has no node MODEL.{name} that holds its "
            "classes and thresholds; name one of this project's detectors, such as VFNet"
        )
    return f"MODEL.{name}"


def detector_node(cfg: CfgNode) -> CfgNode:
    """The node that describes the configured detector: see `detector_key`."""
    return cfg.MODEL[detector_key(cfg).partition(".")[2]]


def check_class_names(cfg: CfgNode) -> None:
    """Raise a UserError if the configured detector has another number of classes than names."""
    node = detector_node(cfg)
    if node.CLASS_NAMES and len(node.CLASS_NAMES) != node.NUM_CLASSES:
        raise UserError(
            f"{detector_key(cfg)}.NUM_CLASSES is {node.NUM_CLASSES}, but CLASS_NAMES has "
            f"{len(node.CLASS_NAMES)} names. Set NUM_CLASSES to their number"
        )


def inference_precision(cfg: CfgNode) -> tuple[str, str]:
    """The full key of PRECISION_TEST and its value; float32 for detectors that have no such key."""
    key = f"{detector_key(cfg)}.PRECISION_TEST"
    return key, detector_node(cfg).get("PRECISION_TEST", "float32")


def norms_are_fixed(cfg: CfgNode) -> bool:
    """Whether the backbone's batch norms keep their statistics, by the key's new or old name."""
    return cfg.MODEL.RESNETS.NORM_EVAL and cfg.MODEL.VFNET.BACKBONE_NORM_EVAL
