"""How pictures are cut, and how what is found in their slices is merged. No SAHI in here."""

from dataclasses import dataclass, replace

from detectron2.config import CfgNode

from ..config import detector_node
from ..errors import UserError
from ..utils.extras import require_extra

# In less a detector sees next to nothing, and a large picture has millions of them.
SMALLEST_SIZE = 32
MERGES = ("nms", "nmm", "greedy_nmm")
METRICS = ("iou", "ios")


@dataclass(frozen=True)
class Slicing:
    """Squares of a picture, and how their detections become the picture's.

    Attributes:
        size: edge of a slice, in pixels of the picture as it is read.
        overlap: share of a slice that its neighbour sees too, from 0 to below 1.
        full_picture: whether the whole picture is looked at too, as without slices: for objects
            that no slice holds.
        merge: what becomes of detections of a class that overlap. "nms": the best one stays.
            "greedy_nmm": the box around the best one and all that overlap it. "nmm": the box around
            a chain of them. A detector of low threshold finds chains everywhere.
        metric: "iou", intersection over union; "ios", over the smaller of the two areas, which
            merges an object's parts with the whole, and small objects with larger ones.
        threshold: overlapping is what reaches it. None: the detector's own threshold of NMS, of
            which `Predictor` knows.

    Raises:
        UserError: a value that cannot be.
    """

    size: int
    overlap: float = 0.2
    full_picture: bool = True
    merge: str = "nms"
    metric: str = "iou"
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.size < SMALLEST_SIZE:
            raise UserError(f"expected slices of at least {SMALLEST_SIZE} pixels, got {self.size}")
        if not 0.0 <= self.overlap < 1.0:
            raise UserError(
                f"expected an overlap of slices from 0 to below 1, such as 0.2, got {self.overlap}"
            )
        for value, choices in ((self.merge, MERGES), (self.metric, METRICS)):
            if value not in choices:
                raise UserError(
                    f"expected slices to be merged by one of {', '.join(choices)}, got {value!r}"
                )
        if self.threshold is not None and not 0.0 < self.threshold <= 1.0:
            raise UserError(
                "expected a threshold for merging slices above 0 and at most 1, "
                f"got {self.threshold}"
            )

    def with_threshold(self, threshold: float | None) -> "Slicing":
        """Return these with this threshold where they have none."""
        return self if self.threshold is not None else replace(self, threshold=threshold)


def slicing_of(cfg: CfgNode) -> Slicing | None:
    """Read TEST.SLICE; None where its SIZE is 0.

    Raises:
        UserError: a value that cannot be.
    """
    node = cfg.TEST.SLICE
    if node.BATCH_SIZE < 1:
        raise UserError(f"expected TEST.SLICE.BATCH_SIZE of at least 1, got {node.BATCH_SIZE}")
    if node.SIZE == 0:
        return None
    try:
        return Slicing(
            size=node.SIZE,
            overlap=node.OVERLAP,
            full_picture=node.FULL_PICTURE,
            merge=node.MERGE,
            metric=node.MERGE_METRIC,
            threshold=node.MERGE_THRESH or detector_node(cfg).NMS_THRESH_TEST,
        )
    except UserError as error:
        raise UserError(f"TEST.SLICE: {error}") from None


def require_sahi() -> None:
    """Raise a UserError if SAHI is not installed."""
    require_extra("sahi", "sahi")
