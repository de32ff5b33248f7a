"""What `--resume` continues from, and which keys of the config its checkpoint overrides."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from detectron2.utils import comm

from ..checkpoint.continuable import check_continuable, fingerprint
from ..errors import UserError
from ..utils.comm import check_on_all_processes, on_main_process
from ..utils.text import is_name

logger = logging.getLogger(__name__)

Warn = Callable[[str], None]

# What a run can be continued from, with the number of the last iteration in the name.
_CHECKPOINT = re.compile(r"model_(?:(\d+)|final)\.pth")
# Longer than the name of any file; the rest of a damaged `last_checkpoint` is not read.
_LONGEST_NAME = 4096


def last_checkpoint_tag(output_dir: str) -> str:
    """Return the path of the file that names the newest checkpoint of a run."""
    return os.path.join(output_dir, "last_checkpoint")


def checkpoint_to_continue(output_dir: str, *, required: bool, warn: Warn = logger.warning) -> str:
    """Return the path of the checkpoint that `--resume` continues from, "" for none.

    That is the one that `last_checkpoint` names, or where it is not whole (`check_continuable`) the
    newest one before it that is. The first process decides for all of them, which call this
    together; every machine has to have the file.

    Args:
        output_dir: the folder of the run.
        required: whether it is an error that there is nothing to continue.
        warn: called on the first process with a line for each checkpoint that is passed over.

    Raises:
        UserError: there is nothing to continue, and it is required; there are checkpoints, and none
            of them is whole; or a machine does not have the one to continue from.
    """
    path = on_main_process(lambda: _newest_whole(output_dir, required, warn))
    if path:
        expected = on_main_process(lambda: fingerprint(path))
        check_on_all_processes(lambda: _check_same(path, expected))
    return path


def _newest_whole(output_dir: str, required: bool, warn: Warn) -> str:
    tag = last_checkpoint_tag(output_dir)
    reasons: list[str] = []
    iterations = _candidates(output_dir)
    candidates = list(iterations)
    try:
        last = _named_last(tag)
        # Those beyond it are of an earlier run into the same folder.
        end = _number(last)
        candidates = [last, *(path for path in candidates if end is None or iterations[path] < end)]
    except UserError as error:
        reasons.append(str(error))
    for path in dict.fromkeys(candidates):
        try:
            check_continuable(path)
        except UserError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            warn(f"{reason}: --resume goes on with {path}, the newest whole checkpoint")
        return path
    if candidates or os.path.lexists(tag):
        raise UserError(
            f"{output_dir} holds no checkpoint to go on with: {'; '.join(reasons)}. "
            "Put a whole one there, or start anew with an OUTPUT_DIR of its own"
        )
    if required:
        raise UserError(
            f"--resume found nothing to resume: {reasons[0]}; check OUTPUT_DIR, or "
            "use `--resume auto` to start afresh where there is nothing to resume"
        )
    return ""


def _named_last(tag: str) -> str:
    """The path of the checkpoint that `last_checkpoint` names; it exists."""
    if not os.path.isfile(tag):
        raise UserError(f"{tag} does not exist")
    with open(tag, "rb") as file:
        content = file.read(_LONGEST_NAME)
    try:
        name = content.decode().strip()
    except UnicodeDecodeError:
        name = ""
    if not name or not is_name(name):
        raise UserError(f"{tag} does not hold the name of a file")
    path = os.path.join(os.path.dirname(tag), name)
    if not os.path.isfile(path):
        raise UserError(f"{tag} names {path}, which does not exist")
    return path


def _candidates(output_dir: str) -> dict[str, int]:
    """The last iteration of the numbered checkpoints and the final one, by path, newest first."""
    found: dict[str, int] = {}
    for name in os.listdir(output_dir) if os.path.isdir(output_dir) else ():
        path = os.path.join(output_dir, name)
        if _CHECKPOINT.fullmatch(name) and os.path.isfile(path):
            number = _number(path)
            found[path] = _iteration_of(path) if number is None else number
    return dict(sorted(found.items(), key=lambda item: item[1], reverse=True))


def _number(path: str) -> int | None:
    """The iteration in the name of a checkpoint; None: it has none."""
    match = _CHECKPOINT.fullmatch(os.path.basename(path))
    return int(match[1]) if match and match[1] else None


def _iteration_of(path: str) -> int:
    try:
        return check_continuable(path)
    except UserError:
        return 0  # the reason is found when its turn comes


def _check_same(path: str, expected: object) -> None:
    """Check on another machine than the first, which may have a disk of its own."""
    if comm.is_main_process():
        return
    reason = "it is another file"
    try:
        check_continuable(path)
        if fingerprint(path) == expected:
            return
    except UserError as error:
        reason = str(error)
    raise UserError(
        f"process {comm.get_rank()} cannot go on with {path} as the first process does: {reason}. "
        "Let all machines share OUTPUT_DIR, or copy the file to each of them"
    )


def check_not_moved(config_file: str, output_dir: str) -> None:
    """Refuse to continue by the config of a run that lies in another folder by now.

    Args:
        config_file: what `--config-file` names.
        output_dir: what OUTPUT_DIR is in it.

    Raises:
        UserError: nothing is in OUTPUT_DIR, and checkpoints lie beside the config.
    """
    folder = os.path.dirname(config_file) or "."
    is_dumped = os.path.basename(config_file) == "config.yaml"
    if is_dumped and os.path.isfile(last_checkpoint_tag(folder)) and not _candidates(output_dir):
        raise UserError(
            f"OUTPUT_DIR is {output_dir}, where nothing is to resume, but checkpoints lie beside "
            f"{config_file}: give OUTPUT_DIR {folder} to go on with them there"
        )


def what_remains(output_dir: str) -> str:
    """Return a sentence on what a run that was stopped goes on with."""
    try:
        path = _named_last(last_checkpoint_tag(output_dir))
    except UserError:
        return "No checkpoint had been written by then"
    return f"{path} is as it was, and --resume goes on with it"


def overridden_keys(configured: Mapping[str, Any], used: Mapping[str, Any]) -> list[str]:
    """Return a line for each key whose value is the checkpoint's instead of the config's.

    Args:
        configured: values by full key, before the checkpoint was loaded.
        used: after.
    """
    return [
        f"{key} is {value} in the config, but --resume goes on with the checkpoint's {used[key]}; "
        "another value takes a new run, with MODEL.WEIGHTS and OUTPUT_DIR of its own"
        for key, value in configured.items()
        if key in used and used[key] != value
    ]
