"""The config of a tiny QualityRetinaNet, for what tests do with `tests.engine.tiny`."""

from pathlib import Path

from vfnet.engine import load_config

CONFIG = Path(__file__).with_name("tiny_retinanet.yaml")


def retinanet_config(output_dir, *overrides):
    return load_config(str(CONFIG), ["OUTPUT_DIR", str(output_dir), *overrides])
