"""Parts of a detector, built as from the config's defaults."""

from vfnet.modeling.losses.classification import ClassificationLoss, build_classification_loss


def classification_loss(name: str, everywhere: bool = True) -> ClassificationLoss:
    return build_classification_loss(
        name,
        prefix="MODEL.VFNET",
        varifocal_alpha=0.75,
        varifocal_gamma=2.0,
        varifocal_iou_weighted=True,
        varifocal_everywhere=everywhere,
        quality_focal_beta=2.0,
        focal_alpha=0.25,
        focal_gamma=2.0,
    )
