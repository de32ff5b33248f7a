"""Command lines of demo/demo.py, and the detector and the pictures that they name."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["nut", "bolt", "washer"]
WIDTH, HEIGHT = 96, 64
CONFIG = f"""
_BASE_: {ROOT / "configs" / "Base-VFNet.yaml"}
MODEL:
  DEVICE: cpu
  RESNETS: {{DEPTH: 18, STEM_OUT_CHANNELS: 8, RES2_OUT_CHANNELS: 8}}
  FPN: {{OUT_CHANNELS: 64}}
  VFNET: {{NUM_CLASSES: 3, CONV_CHANNELS: 64, NUM_CONVS: 1, CLASS_NAMES: {NAMES}}}
INPUT: {{MIN_SIZE_TEST: 0}}
DATASETS:
  COCO_FORMAT: [["far_away", "nowhere/far_away.json", "nowhere"]]
  TEST: ("far_away",)
"""


def arguments(model, inputs, output, *more):
    """A command line; of options given twice, the later counts."""
    known = ["--config-file", model / "config.yaml", "--output", output]
    opts = () if "--opts" in more else ("--opts", "MODEL.WEIGHTS", model / "model.pth")
    return [str(part) for part in (*known, "--input", *inputs, *more, *opts)]


def predict(demo, *args):
    demo.run(demo.parse_arguments(arguments(*args)))
    return json.loads((args[2] / "predictions.json").read_text())
