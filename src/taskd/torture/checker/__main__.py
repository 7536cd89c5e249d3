"""`python -m taskd.torture.checker FOLDER`: check a recorded run; exit status 1 if a promise was broken."""

from __future__ import annotations

import sys
from pathlib import Path

from taskd.torture.checker import examine
from taskd.torture.checker.report import report
from taskd.torture.history import History


def main(arguments: list[str]) -> int:
    """Check a folder. Return 0 if every invariant holds, 1 if one is broken, 2 if there is no history to read."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m taskd.torture.checker FOLDER\n")
        return 2
    try:
        history = History.load(Path(arguments[0]))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    ledger = examine(history)
    for line in report(history, ledger):
        sys.stdout.write(line + "\n")
    return 1 if ledger.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
