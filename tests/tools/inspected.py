"""What the tests of the tools that look inside share: a tiny detector on the drawn shapes."""

import subprocess
import sys
from pathlib import Path

import torch
from detectron2.modeling import build_model

from vfnet.engine import load_config

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "engine" / "tiny.yaml"
LIBRA = TINY.with_name("tiny_libra.yaml")


def run_tool(name, *arguments):
    """Run a tool as a user does -> its exit status, and what it wrote."""
    command = [sys.executable, f"tools/{name}.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def random_weights(path, config=TINY):
    torch.manual_seed(0)
    torch.save({"model": build_model(load_config(str(config))).state_dict()}, path)
    return path
