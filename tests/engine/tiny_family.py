"""The tiny configs of all detectors beside VFNet, by name."""

from functools import partial

from .tiny import tiny_config
from .tiny_libra import libra_config
from .tiny_retinanet import retinanet_config


def location_config(node, architecture, output_dir, *overrides, more=()):
    key = f"MODEL.{node}"
    return tiny_config(
        output_dir,
        *("MODEL.META_ARCHITECTURE", architecture, f"{key}.NUM_CLASSES", "3"),
        *(f"{key}.CONV_CHANNELS", "64", f"{key}.NUM_CONVS", "1"),
        *more,
        *overrides,
    )


QUALITY = ("MODEL.GFL.QUALITY_PREDICTOR.ENABLED", "True")
POINTS = ("MODEL.REPPOINTS.POINT_CHANNELS", "32")
CONFIGS = {
    "atss": partial(location_config, "ATSS", "ATSS"),
    "gfl": partial(location_config, "GFL", "GFL"),
    "gflv2": partial(location_config, "GFL", "GFL", more=QUALITY),
    "foveabox": partial(location_config, "FOVEABOX", "FoveaBox"),
    "reppoints": partial(location_config, "REPPOINTS", "RepPoints", more=POINTS),
    "retinanet": retinanet_config,
    "libra": libra_config,
}
