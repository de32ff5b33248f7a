"""INPUT.KEEP_CROWD and the detectors' IGNORE_IOF_THRESH, which need each other."""

from detectron2.config import CfgNode

from ...config import detector_key, detector_node
from ...errors import UserError


def check_ignored_regions(cfg: CfgNode) -> None:
    """Check what is to be ignored in training.

    Raises:
        UserError: a share that no location can exceed, or nothing is kept that could be ignored.
    """
    key = f"{detector_key(cfg)}.IGNORE_IOF_THRESH"
    threshold = detector_node(cfg).get("IGNORE_IOF_THRESH", -1.0)
    if not threshold < 1:
        raise UserError(
            f"{key} has to be a share of an anchor, from 0 to below 1, or below 0 to ignore "
            f"nothing; got {threshold!r}"
        )
    if threshold >= 0 and not cfg.INPUT.KEEP_CROWD:
        raise UserError(
            f"{key} {threshold} needs INPUT.KEEP_CROWD True: without it the mapper leaves crowds "
            "out, and nothing is ignored. Set that, or set this key to -1.0"
        )


def ignored_region_warnings(cfg: CfgNode) -> list[str]:
    """Return a line where crowds are kept and nothing reads them."""
    node = detector_node(cfg)
    if not cfg.INPUT.KEEP_CROWD or node.get("IGNORE_IOF_THRESH", -1.0) >= 0:
        return []
    if "IGNORE_IOF_THRESH" in node:
        return [
            f"INPUT.KEEP_CROWD has no effect while {detector_key(cfg)}.IGNORE_IOF_THRESH is below "
            "0: crowds are background"
        ]
    return [
        f"INPUT.KEEP_CROWD has no effect on {cfg.MODEL.META_ARCHITECTURE}, whose proposals know no "
        "ignored regions: crowds are background"
    ]
