"""Where detectron2, which is on no package index, is got from, and whether it can be had there."""

# An older Python must be able to read this file, to be told that it is too old.
from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

# A tested commit of its repository.
DETECTRON2 = (
    "git+https://github.com/facebookresearch/detectron2.git"
    "@02b5c4e295e990042a714712c21dc79b731e8833"
)
# An unreachable server is an error within a minute, and nobody is asked for a password.
PATIENCE = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
    "GIT_HTTP_LOW_SPEED_TIME": "60",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=30",
}


class SetupError(Exception):
    """Why set-up cannot go on, and what to do about it."""


def check_detectron2(source: str) -> None:
    """Raise SetupError, before anything large is downloaded, if detectron2 cannot be had."""
    reason = why_not(source)
    if reason is not None:
        raise no_detectron2(source, reason)
    compilers = [os.environ.get("CXX", "c++").split()[0], "g++", "clang++"]
    if not source.endswith(".whl") and not any(map(shutil.which, compilers)):
        raise no_detectron2(source, "building it needs a C++ compiler (g++ or clang++)")


def no_detectron2(source: str, reason: str) -> SetupError:
    """Return the error that says why there is no detectron2, and how to name another one."""
    return SetupError(
        f"detectron2 cannot be had from {source}: {reason}.\n"
        "It is on no package index. Let DETECTRON2 name a folder with its source, a wheel or a "
        "URL, as in\n    DETECTRON2=/path/to/detectron2 make test\n"
        "or let PYTHON name a Python that has it."
    )


def absolute(source: str) -> str:
    """Return a folder or file as an absolute path, as pip wants it; a URL stays."""
    return source if "://" in source else str(Path(source).expanduser().resolve())


def why_not(source: str) -> str | None:
    """Return why pip could not get `source` (folder, wheel or URL), None where it could."""
    if source.startswith("git+"):
        return why_not_git(source)
    if source.startswith(("http://", "https://")):
        return why_not_http(source)
    path = Path(source)
    if path.is_dir() and not any((path / n).is_file() for n in ("setup.py", "pyproject.toml")):
        return "the folder has neither setup.py nor pyproject.toml"
    return None if path.exists() or "://" in source else "there is no such file or folder"


def why_not_http(url: str) -> str | None:
    """Ask the server whether it has the file."""
    try:
        urllib.request.urlopen(url, timeout=30).close()
    except urllib.error.URLError as error:
        # pip knows certificates of its own, so that it may well succeed.
        return None if isinstance(error.reason, ssl.SSLError) else str(error)
    except OSError as error:
        return str(error)
    return None


def why_not_git(source: str) -> str | None:
    """Ask the server of a `git+URL@revision` whether it has the repository."""
    if shutil.which("git") is None:
        return "there is no git"
    url = source[len("git+") :].split("#")[0]
    address, _, revision = url.rpartition("@")
    # An @ before a slash belongs to the server's name, as in ssh://git@host/path.
    repository = address if address and "/" not in revision else url
    command = ["git", "ls-remote", "--quiet", repository, "HEAD"]
    try:
        subprocess.run(
            command,
            env={**os.environ, **PATIENCE},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return "the server does not answer"
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip().split("\n")[0]
    return None
