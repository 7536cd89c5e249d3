"""`taskd`, and `python -m taskd`."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from taskd.runtime import stdio

INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with its code. Ctrl-C is quiet from the first moment to the last."""
    heard = signal.getsignal(signal.SIGINT)
    if heard is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    stdio.open_closed()  # before anything opens a file that stays open
    from taskd.runtime import init  # noqa: PLC0415  executor processes import this module by name, and need none of it

    init.split()  # before anything is loaded or a thread is started
    stdio.steady_stderr()
    from taskd.cli.main import run  # noqa: PLC0415

    signal.signal(signal.SIGINT, heard)
    try:
        code = run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    if heard is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    sys.exit(code)


def _leave(_number: int, _frame: object) -> NoReturn:
    """End at once: nothing has begun yet, or all is done."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
