"""Prints `taskd.toml.example` (`python -m taskd.settings`), or the tables of docs/configuration.md (`--markdown`)."""

from __future__ import annotations

import sys

from taskd.settings.documents import as_markdown, as_toml

if __name__ == "__main__":
    # The output of this program.
    print(as_markdown() if "--markdown" in sys.argv else as_toml(), end="")  # noqa: T201
