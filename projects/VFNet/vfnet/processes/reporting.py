"""What ended a program, in one line on its terminal."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from datetime import timedelta

from torch import distributed as dist

from ..errors import UserError
from ..utils.quiet import ignore_known_warnings
from ..utils.text import one_line
from .explanations import explanation, sigterm
from .signals import Stopped, stopped_by_sigterm


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Turn what is no bug into one line `error: ...` on stderr and exit status 1.

    That is a `UserError`, what `explanation` knows, and Ctrl-C and SIGTERM, whose statuses are 130
    and 143 as a shell has them. What names in it may hold, such as a line's end or a terminal's
    control, is escaped.

    Of the processes that `torchrun` started on a machine, only the first to fail prints. Known
    warnings of dependencies do not reach the terminal.
    """
    ignore_known_warnings()
    try:
        with stopped_by_sigterm():
            yield
    except (KeyboardInterrupt, Stopped) as error:
        terminated = isinstance(error, Stopped)
        name, status = (sigterm(), Stopped.STATUS) if terminated else ("SIGINT (Ctrl-C)", 130)
        _print_error(f"stopped by {name}; what had been written by then is whole")
        raise SystemExit(status) from None
    except Exception as error:
        if (found := explanation(error)) is None:
            raise
        _print_error(message_of(found))
        raise SystemExit(1) from None


def message_of(error: UserError) -> str:
    """Return an error's own message, without the traceback that a data loader's worker adds."""
    own = re.search(r"^Caught \w+ in DataLoader worker.*\n[\w.]+Error: (.*)$", str(error), re.S)
    return one_line((own.group(1) if own else str(error)).strip())


def _print_error(message: str) -> None:
    if _first_to_report():
        print(f"error: {message}", file=sys.stderr, flush=True)


def _first_to_report() -> bool:
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    attempt = [os.environ.get(name, "0") for name in ("TORCHELASTIC_RESTART_COUNT", "GROUP_RANK")]
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        store = dist.TCPStore(*address, timeout=timedelta(seconds=5))
        return store.add("/".join(["vfnet", "errors", *attempt]), 1) == 1
    except dist.DistError:  # torchrun, whose store it is, has gone
        return True
