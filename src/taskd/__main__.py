"""`taskd`, and `python -m taskd`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from taskd.cli.main import run  # noqa: PLC0415  executor processes import this module by name, and need none of it

    sys.exit(run())


if __name__ == "__main__":
    main()
