"""What would give a location to the boxes of a data set that have none, tried on these boxes."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode

from .. import model_zoo
from ..config import detector_node
from ..errors import UserError
from .unlearned import assign_boxes

Record = dict[str, Any]
AS_CONFIGURED = "as configured"
FALLBACK = "ATSS_FALLBACK True"


def shares_without_location(
    cfg: CfgNode, records: Sequence[Record]
) -> dict[str, list[tuple[int, float]]]:
    """The share of boxes without a location, as configured and with one thing changed at a time.

    Args:
        cfg, records: as for `assign_boxes`.

    Returns:
        (short edge in pixels, share) for each size of training, by what is changed.
    """
    shares = {}
    for name, changed in {AS_CONFIGURED: cfg, **_alternatives(cfg)}.items():
        try:
            found = assign_boxes(changed, records)
        except UserError:  # such as a backbone that has no such level
            if name == AS_CONFIGURED:
                raise
            continue
        shares[name] = [(item.short_edge, float((~item.is_learned).mean())) for item in found]
    return shares


def recommend(shares: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """One sentence on what helps, from what `shares_without_location` returns."""
    means = {name: sum(x for _, x in found) / len(found) for name, found in shares.items()}
    before = means.pop(AS_CONFIGURED)
    rest = means.pop(FALLBACK, None)
    best = min(means, key=lambda name: means[name], default=None)
    parts = []
    if best is not None and means[best] < before / 2:
        parts.append(
            f"{best} leaves {100 * means[best]:.1f} % without a location, instead of "
            f"{100 * before:.1f} %"
        )
    if rest is not None and (best is None or not parts or means[best] > 0):
        parts.append(f"{FALLBACK} gives {'the others' if parts else 'each'} the best one left")
    return "; ".join(parts) or "none of these changes helps: the boxes are too small"


def _alternatives(cfg: CfgNode) -> dict[str, CfgNode]:
    """Configs with one change each, as far as the configured detector has the key."""
    node = detector_node(cfg)
    found = {}
    for key, value in (("ATSS_FALLBACK", True), ("ANCHOR_SCALE", 4.0), ("ATSS_TOPK", 15)):
        if key in node and node[key] != value:
            changed = found[f"{key} {value}"] = _copy(cfg)
            detector_node(changed)[key] = value
    if "p2" not in node.get("IN_FEATURES", ["p2"]):
        changed = found["a level P2 (configs/override/p2.yaml)"] = _copy(cfg)
        changed.merge_from_file(model_zoo.get_config_file("override/p2.yaml"))
    if min(cfg.INPUT.MIN_SIZE_TRAIN) > 0:
        changed = found["pictures, or slices of them, twice as large"] = _copy(cfg)
        for key in ("MIN_SIZE_TRAIN", "MAX_SIZE_TRAIN_RANGE"):
            changed.INPUT[key] = tuple(2 * edge for edge in changed.INPUT[key])
        changed.INPUT.MAX_SIZE_TRAIN *= 2
    return found


def _copy(cfg: CfgNode) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    return cfg
