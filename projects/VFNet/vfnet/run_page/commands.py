"""Commands that go on with a run, to be copied into a shell."""

import ast
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from detectron2.config import CfgNode


class Command(NamedTuple):
    """What a command does, and its line."""

    what: str
    line: str


def start_command() -> list[str]:
    """The command line of this process, the interpreter first."""
    return [sys.executable, *sys.argv]


def commands_for(
    folder: Path, cfg: CfgNode, facts: Mapping[str, Any], weights: str, picture: str
) -> list[Command]:
    """How to continue, evaluate, predict with and export a run.

    Args:
        folder: the run's OUTPUT_DIR, where it is now.
        cfg: its config.
        facts: how it was started: see `describe_start`; where they lack, from here.
        weights: the name of the checkpoint to go on with.
        picture: the path of one to predict on.
    """
    start = Path(facts.get("folder", os.getcwd()))
    command: list[str] = facts.get("command") or []
    python, script = command[:2] if len(command) > 1 else ("python", "train_net.py")
    if Path(script).name != "train_net.py":  # a program of one's own, or a missing one
        python, script = "python", "train_net.py"
    root = Path(script).parent
    run = _seen_from(start, folder)

    def line(program: str | Path, *words: str) -> str:
        return shlex.join([python, str(program), *words])

    if os.sep in python:
        python = _seen_from(start, Path(start, python))
    config = ("--config-file", os.path.join(run, "config.yaml"))
    moved = Path(start, cfg.OUTPUT_DIR).resolve() != folder.resolve()
    here = ("OUTPUT_DIR", _yaml_text(run)) if moved else ()
    processes = int(facts.get("processes", 1))
    several = ("--num-gpus", str(processes)) if processes > 1 else ()
    file = os.path.join(run, weights)
    model = ("MODEL.WEIGHTS", _yaml_text(file))
    apart = ("OUTPUT_DIR", _yaml_text(os.path.join(run, "evaluation")))
    return [
        Command("Go to where it was started", f"cd {shlex.quote(str(start))}"),
        Command("Continue", line(script, *config, *several, "--resume", *here)),
        Command("Evaluate", line(script, *config, *several, "--eval-only", *model, *apart)),
        Command(
            "Predict",
            line(
                root / "demo" / "demo.py",
                *("--weights", file, "--input", picture),
                *("--output", os.path.join(run, "predictions")),
            ),
        ),
        Command(
            "Export",
            line(
                root / "tools" / "export.py",
                *(*config, "--format", "onnx", "--output", os.path.join(run, "exported")),
                *("--opts", *model),
            ),
        ),
        Command("Write this page again", line(root / "tools" / "run_page.py", run)),
    ]


def _seen_from(start: Path, path: Path) -> str:
    """A path as short as it can be from a folder: relative within it, else absolute."""
    # Not resolved: a virtual environment's interpreter is a link to another one.
    path, start = Path(os.path.abspath(path)), Path(os.path.abspath(start))
    if not path.is_relative_to(start):
        return str(path)
    relative = str(path.relative_to(start))
    return f"./{relative}" if relative.startswith("-") else relative


def _yaml_text(text: str) -> str:
    """A text as a value of KEY VALUE pairs: quoted where it would be taken for something else."""
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
    return repr(text)
