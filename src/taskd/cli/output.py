"""What goes to stdout: one JSON document, or text for people."""

from __future__ import annotations

import io
import json
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

#: Columns when nobody watches: wide enough that a pipe gets whole lines.
PIPE_WIDTH = 200
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def print_json(document: Any) -> None:
    """One document, indented for a terminal."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(document, indent=indent, ensure_ascii=False) + "\n")


def console() -> Console:
    """A console that leaves colours and wrapping out when stdout is no terminal."""
    from rich.console import Console  # noqa: PLC0415  --json does without

    if sys.stdout.isatty():
        return Console(highlight=False)
    file = cast(TextIO, _Trimmed(sys.stdout))
    return Console(file=file, highlight=False, width=PIPE_WIDTH, no_color=True, force_terminal=False)


class _Trimmed(io.TextIOBase):
    """A stream whose lines have no blanks at their ends: columns are filled with them, which no pipe and no page needs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        #: Rich draws lines only where the encoding has them.
        self._encoding = stream.encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]  # an attribute there, which cannot be set
        """That of the stream."""
        return self._encoding

    def write(self, text: str, /) -> int:
        """Whole lines."""
        self._stream.write("\n".join(line.rstrip(" ") for line in text.split("\n")))
        return len(text)

    def flush(self) -> None:
        """As of the stream."""
        self._stream.flush()


def printable(text: str) -> str:
    """The text without control characters but tabs and newlines: what a task says must not steer the terminal."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def count(jobs: int) -> str:
    """So many jobs, in words."""
    return "1 job" if jobs == 1 else f"{jobs:,} jobs"


def brief(value: Any, width: int = 400) -> str:
    """JSON on one line, cut at `width` characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= width else f"{text[:width]}…"
