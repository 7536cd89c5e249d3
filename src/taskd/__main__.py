"""`taskd`, and `python -m taskd`."""

from __future__ import annotations

import sys

from taskd.runtime import stdio


def main() -> None:
    """Run the command line and exit with its code."""
    stdio.open_closed()  # before anything opens a file that stays open
    from taskd.runtime import init  # noqa: PLC0415  executor processes import this module by name, and need none of it

    init.split()  # before anything is loaded or a thread is started
    stdio.steady_stderr()
    from taskd.cli.main import run  # noqa: PLC0415

    sys.exit(run())


if __name__ == "__main__":
    main()
