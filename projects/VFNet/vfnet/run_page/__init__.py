"""run.html: one page that tells how a run went, written at its end."""

import logging
from pathlib import Path

from .page import NAME, write_page

logger = logging.getLogger(__name__)

__all__ = ["NAME", "tell_run", "write_page"]


def tell_run(folder: str) -> None:
    """Write the page of a run that has just ended; where that fails, one warning says so."""
    try:
        page = write_page(Path(folder))
    except Exception as error:
        logger.warning(f"{NAME} could not be written ({type(error).__name__}: {error})")
    else:
        logger.info(f"the run on one page: {page}")
