"""Is a downloaded file the one that was published?"""

from __future__ import annotations

import contextlib
import os
import re

from ..errors import UserError

# Here a file's name ends with the first eight digits of its sha256. openmmlab's backbones, under
# /pretrain, were renamed by hand, and not all of their names are true.
_HASH_IN_NAME = re.compile(
    r"https?://(?:download\.openmmlab\.com/mmdetection|download\.pytorch\.org/models)/"
    r".*-([0-9a-f]{8})\.pth"
)


def check_download(url: str, file: str, digest: str) -> None:
    """Compare a file's hash with the one that its URL names, and remove a file that differs.

    Args:
        url: where the file is from; nothing is known of files of other hosts.
        file: the downloaded one, in a cache that would hand it out again.
        digest: its sha256.

    Raises:
        UserError: the hashes differ.
    """
    match = _HASH_IN_NAME.fullmatch(url)
    if match is None or digest.startswith(match.group(1)):
        return
    with contextlib.suppress(FileNotFoundError):  # another process may have been faster
        os.remove(file)
    raise UserError(
        f"{url}: expected a file whose sha256 begins with {match.group(1)}, got one with "
        f"{digest[:8]} ({file}, now deleted): the download is damaged or is not the published "
        "file. Try again, or download it by other means and set MODEL.WEIGHTS to mmdet://FILE"
    )
