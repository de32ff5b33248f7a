"""Make `.venv` ready for this project; `make` runs it before everything else.

torch, torchvision and detectron2 of the starting Python (the one that runs this file) are used as
they are; what is missing is installed into `.venv`, and nowhere else. Standard library only.
"""

# An older Python must be able to read this file, to be told that it is too old.
from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import site
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from detectron2_source import (
    DETECTRON2,
    PATIENCE,
    SetupError,
    absolute,
    check_detectron2,
    no_detectron2,
)

ROOT = Path(__file__).resolve().parents[2]
OLDEST_PYTHON = (3, 10)
# What is used where it is there, and the imports that show it. The pair counts only as a pair:
# a torchvision of another torch does not load.
PROBES = {"torch": "torch, torchvision", "detectron2": "detectron2"}
# detectron2.model_zoo imports pkg_resources, which later setuptools do not have.
SETUPTOOLS = "setuptools>=70.1,<81"


class Step(NamedTuple):
    """One call of `pip install`: what it brings, and its arguments."""

    what: str
    arguments: list[str]


def plan(found: set[str], detectron2: str) -> list[Step]:
    """Return what has to be installed, in order.

    Args:
        found: those keys of `PROBES` that `.venv` can import already.
        detectron2: what pip gets for detectron2 when that is missing.
    """
    steps = [Step("the build tools", [SETUPTOOLS, "wheel"])]
    if "torch" not in found:
        # In one call, without versions: pip finds the newest two that belong together.
        steps.append(Step("torch and torchvision", ["torch", "torchvision"]))
    if "detectron2" not in found:
        steps.append(Step("ninja", ["ninja"]))
        # Its setup.py imports torch, which build isolation would hide.
        steps.append(Step("detectron2", ["--no-build-isolation", detectron2]))
    project = ["--no-build-isolation", "--editable", f"{ROOT}[dev]"]
    return [*steps, Step("vfnet and what it needs", project)]


def oldest_torch() -> tuple[int, ...]:
    """Return the first release of torch that setup.py allows, as (2, 10)."""
    match = re.search(r'"torch>=([0-9.]+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    if match is None:
        raise SetupError('setup.py has no line "torch>=..."')
    return release(match.group(1))


def release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version: "2.10.0+cpu" gives (2, 10)."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def torch_in(python: Path) -> str | None:
    """Return the version of an interpreter's torch if that can be used, else None.

    One that is too old is named: nobody expects a second torch beside theirs.
    """
    if not imports(python, PROBES["torch"]):
        return None
    version = version_of_torch(python)
    if release(version) >= oldest_torch():
        return version
    oldest = ".".join(map(str, oldest_torch()))
    print(f"Set-up: {python} has torch {version}, but {oldest} or later is needed", flush=True)
    return None


def version_of_torch(python: Path) -> str:
    """Return `torch.__version__` of an interpreter that can import it."""
    command = [str(python), "-c", "import torch; print(torch.__version__)"]
    result = subprocess.run(command, cwd=python.parent, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def check_python(version: tuple[int, ...]) -> None:
    """Raise SetupError for a Python that is too old or cannot make virtual environments."""
    if version[:2] < OLDEST_PYTHON:
        oldest, this = (".".join(map(str, v)) for v in (OLDEST_PYTHON, version[:3]))
        raise SetupError(f"Python {oldest} or later is needed, this is {this}; use PYTHON=...")
    if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
        raise SetupError(
            f"{sys.executable} has no venv or no ensurepip, which make virtual environments. "
            "On Debian and Ubuntu: apt install python3-venv. Or name another with PYTHON=..."
        )


def environment_python(venv: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return venv / "bin" / "python"


def imports(python: Path, modules: str) -> bool:
    """Return whether an interpreter can import `modules`."""
    # Elsewhere than in the current folder, which would be searched for modules too.
    command = [str(python), "-c", f"import {modules}"]
    return subprocess.run(command, cwd=python.parent, capture_output=True).returncode == 0


def prepare(venv: Path) -> None:
    """Make an empty virtual environment that sees the starting Python's torch, if it has one.

    A complete one stays what it is, whatever Python it came from, unless its torch has become too
    old; an incomplete one of another Python is made anew.
    """
    python = environment_python(venv)
    complete = (venv / "ready").exists() and python.exists()
    if complete and (torch_in(python) or not imports(python, PROBES["torch"])):
        return
    if Path(sys.prefix).resolve() == venv.resolve():
        raise SetupError(f"{venv} is incomplete and active: `deactivate` it, then again")
    check_python(tuple(sys.version_info[:3]))
    origin = venv / "origin"
    starting_python = f"{sys.version}\n{sys.prefix}\n"
    if complete or not origin.exists() or origin.read_text(encoding="utf-8") != starting_python:
        print(f"Set-up: making {venv} with {sys.executable}", flush=True)
        command = [sys.executable, "-m", "venv", "--clear", str(venv)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise SetupError(f"`{' '.join(command)}` failed:\n{result.stdout}{result.stderr}")
        origin.write_text(starting_python, encoding="utf-8")
    share(venv)


def share(venv: Path) -> None:
    """Put the starting Python's site-packages behind the environment's own, if torch is there.

    venv's --system-site-packages would not do: it passes over a starting Python that is a virtual
    environment itself.
    """
    own = next(venv.glob("lib/python*/site-packages"))
    # Read in the order of the alphabet, so after the __editable__*.pth that pip writes.
    pth = own / "starting_python.pth"
    if torch_in(Path(sys.executable)) is None:
        pth.unlink(missing_ok=True)
        return
    folders = site.getsitepackages()
    folders += [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    # addsitedir, unlike the bare path, reads the .pth files there: editable installs are seen.
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in folders]
    pth.write_text("".join(lines), encoding="utf-8")


def install(venv: Path, detectron2: str) -> None:
    """Install into `venv` whatever it misses."""
    python = environment_python(venv)
    found = {name for name, modules in PROBES.items() if imports(python, modules)}
    if "detectron2" not in found:
        check_detectron2(detectron2)
    log = venv / "setup.log"
    log.write_text("", encoding="utf-8")
    print(f"Set-up: already there: {', '.join(sorted(found)) or 'nothing'}", flush=True)
    for step in plan(found, detectron2):
        print(f"Set-up: installing {step.what} (pip's output: {log})", flush=True)
        if not pip_install(python, step.arguments, log):
            reason = f"pip failed ({last_error(log)}), its output is in {log}"
            if step.what == "detectron2":
                raise no_detectron2(detectron2, reason)
            raise SetupError(f"{step.what} could not be installed: {reason}")


def last_error(log: Path) -> str:
    """Return the last line of pip's output that tells of an error."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.strip() for line in lines if "error:" in line.lower()]
    return errors[-1] if errors else "without a line that says why"


def pip_install(python: Path, arguments: list[str], log: Path) -> bool:
    """Run `pip install`, its output appended to `log`; return whether it succeeded."""
    options = ["--no-input", "--disable-pip-version-check"]
    command = [str(python), "-m", "pip", "install", *options, *arguments]
    with log.open("a", encoding="utf-8") as output:
        result = subprocess.run(
            command,
            env={**os.environ, **PATIENCE},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return result.returncode == 0


def fingerprint() -> str:
    """Return what `.venv` follows from: where the project lies, and the files that define it."""
    digest = hashlib.sha256(str(ROOT).encode())
    for name in (
        "setup.py",
        "pyproject.toml",
        "tools/dev/bootstrap.py",
        "tools/dev/detectron2_source.py",
    ):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def bootstrap(venv: Path, detectron2: str) -> None:
    """Make `venv` ready, from whatever state it is in; a ready one is left alone.

    Raises:
        SetupError: it cannot be made ready.
    """
    ready = venv / "ready"
    exists = ready.exists() and environment_python(venv).exists()
    if exists and ready.read_text(encoding="utf-8") == fingerprint():
        return
    start = time.monotonic()
    prepare(venv)
    install(venv, detectron2)
    ready.write_text(fingerprint(), encoding="utf-8")
    print(f"Set-up: {venv} is ready after {time.monotonic() - start:.0f} s", flush=True)


def main() -> int:
    """Set up the repository's own `.venv`; return the exit status."""
    try:
        bootstrap(ROOT / ".venv", absolute(os.environ.get("DETECTRON2") or DETECTRON2))
    except SetupError as error:
        print(f"Set-up stopped: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
