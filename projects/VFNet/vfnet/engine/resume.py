"""What `--resume` continues from, and which keys of the config its checkpoint overrides."""

import os
from collections.abc import Mapping
from typing import Any

from ..errors import UserError


def last_checkpoint_tag(output_dir: str) -> str:
    """Return the path of the file that names the newest checkpoint of a run."""
    return os.path.join(output_dir, "last_checkpoint")


def checkpoint_to_continue(output_dir: str, *, required: bool) -> str:
    """Return the path of the checkpoint that `--resume` continues from, "" for none.

    Raises:
        UserError: there is none and it is required, or the one named last is gone.
    """
    tag = last_checkpoint_tag(output_dir)
    if not os.path.isfile(tag):
        if required:
            raise UserError(
                f"--resume found nothing to resume: {tag} does not exist; check OUTPUT_DIR, or "
                "use `--resume auto` to start afresh where there is nothing to resume"
            )
        return ""
    with open(tag) as file:
        path = os.path.join(output_dir, file.read().strip())
    if not os.path.isfile(path):
        raise UserError(
            f"{tag} names {path}, which does not exist; write the name of an existing checkpoint "
            "into it, or remove it to start afresh"
        )
    return path


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
