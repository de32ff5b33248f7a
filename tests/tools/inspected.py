"""What the tests of the tools that look inside share: a tiny detector on the drawn shapes."""

from pathlib import Path

import torch
from detectron2.modeling import build_model

from tests.command import run_python
from vfnet.engine import load_config

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "engine" / "tiny.yaml"
LIBRA = TINY.with_name("tiny_libra.yaml")


def run_tool(name, *arguments):
    """Run a tool as a user does -> its exit status, and what it wrote."""
    return run_python(f"tools/{name}.py", *arguments, cwd=ROOT)


def random_weights(path, config=TINY):
    torch.manual_seed(0)
    torch.save({"model": build_model(load_config(str(config))).state_dict()}, path)
    return path
