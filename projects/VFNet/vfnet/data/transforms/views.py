"""The sizes at which test-time augmentation looks at an image."""

from detectron2.config import CfgNode
from detectron2.data import transforms as T

from ...errors import UserError
from .resize import build_resize


def build_resizes(cfg: CfgNode) -> list[T.Augmentation]:
    """Build the resizing of each scale of TEST.AUG, done as INPUT.RESIZE says.

    Raises:
        UserError: no scale, sizes that cannot be, another number of MAX_SIZES than of MIN_SIZES,
            or another value of INPUT.RESIZE.
    """
    aug = cfg.TEST.AUG
    min_sizes = list(aug.MIN_SIZES)
    if not min_sizes:
        raise UserError(
            "TEST.AUG.MIN_SIZES is empty, so there is nothing to look at: name at least one length "
            "of the short edge, as in TEST.AUG.MIN_SIZES (800,)"
        )
    max_sizes = list(aug.MAX_SIZES) or [aug.MAX_SIZE] * len(min_sizes)
    if len(max_sizes) != len(min_sizes):
        raise UserError(
            f"TEST.AUG.MAX_SIZES has {len(max_sizes)} lengths, but MIN_SIZES has {len(min_sizes)}; "
            "give one for each, or none to use TEST.AUG.MAX_SIZE for all"
        )
    if not all(isinstance(size, int) for size in min_sizes + max_sizes) or (
        min(min_sizes) < 0 or min(max_sizes) < 1
    ):
        raise UserError(
            "TEST.AUG expects lengths in whole pixels, MIN_SIZES of 0 (as the image is) or more, "
            f"MAX_SIZES or MAX_SIZE of 1 or more; got {min_sizes} and {max_sizes}"
        )
    return [
        build_resize(_tested_at(cfg, *sizes), is_train=False) for sizes in zip(min_sizes, max_sizes)
    ]


def without_resizing(cfg: CfgNode) -> CfgNode:
    """Return a config, not frozen, whose test images stay as they were read."""
    return _tested_at(cfg, 0, cfg.INPUT.MAX_SIZE_TEST)


def _tested_at(cfg: CfgNode, min_size: int, max_size: int) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.MIN_SIZE_TEST = min_size
    cfg.INPUT.MAX_SIZE_TEST = max_size
    return cfg
