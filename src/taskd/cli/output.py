"""All output of the command line: one JSON document, or text for people. Nothing else writes to stdout or stderr.

What is written comes from outside in parts, so all of it is cleaned here: see `taskd.runtime.terminal`.
"""

from __future__ import annotations

import codecs
import io
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

from taskd.domain import exact
from taskd.runtime.terminal import clean, clean_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

#: Columns where there is no terminal: a line is a line there, however long.
PIPE_WIDTH = 10_000


def tell(text: str, *, err: bool = False) -> None:
    """Write text and a newline."""
    stream = sys.stderr if err else sys.stdout
    stream.write(clean(text) + "\n")
    if err or stream.isatty():
        stream.flush()


def print_json(document: Any) -> None:
    """Write one document, indented for a terminal. Numbers have the digits that they came with."""
    indent = 2 if sys.stdout.isatty() else None
    write_json(exact.dumps(document, indent=indent) + "\n")


def write_json(text: str) -> None:
    """Write JSON, or lines of it, which is UTF-8 or ASCII; what would steer a terminal becomes escapes of the same value."""
    ascii_only = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"
    sys.stdout.write(clean_json(text, ascii_only=ascii_only))


def console(*, err: bool = False) -> Console:
    """A console that leaves colours and cuts out when stdout is no terminal."""
    from taskd.runtime.console import SafeConsole  # noqa: PLC0415  --json does without

    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        return SafeConsole(stderr=err)
    file = cast(TextIO, _Trimmed(stream))
    return SafeConsole(file=file, width=PIPE_WIDTH, no_color=True, force_terminal=False)


def show(view: RenderableType, width: int | None = None) -> None:
    """Print a view; on a terminal in at most `width` columns."""
    out = console()
    out.print(view, crop=out.is_terminal, width=min(width or out.width, out.width) if out.is_terminal else None)


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


def count(jobs: int) -> str:
    """So many jobs, in words."""
    return "1 job" if jobs == 1 else f"{jobs:,} jobs"


def brief(value: Any, width: int = 400) -> str:
    """JSON on one line, cut at `width` characters."""
    text = exact.dumps(value)
    return text if len(text) <= width else f"{text[:width]}…"
