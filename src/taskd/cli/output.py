"""All output of the command line: one JSON document, or text. No other module writes to stdout or stderr.

Parts of the output come from outside, so all of it is cleaned here: see `taskd.runtime.terminal`.
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

#: Columns where there is no terminal: lines are not wrapped there.
PIPE_WIDTH = 10_000


def write_line(text: str, *, err: bool = False) -> None:
    """Write a line of text to stdout, or to stderr with `err`."""
    stream = sys.stderr if err else sys.stdout
    stream.write(clean(text) + "\n")
    if err or stream.isatty():
        stream.flush()


def print_json(document: Any) -> None:
    """Write one document, indented for a terminal. Numbers keep their digits."""
    indent = 2 if sys.stdout.isatty() else None
    write_json(exact.dumps(document, indent=indent) + "\n")


def write_json(text: str) -> None:
    """Write JSON, or lines of it, as UTF-8 or ASCII. Characters that would steer a terminal become escapes of equal value."""
    ascii_only = codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8"
    sys.stdout.write(clean_json(text, ascii_only=ascii_only))


def console(*, err: bool = False) -> Console:
    """Return a console; without colours and truncation when the stream is not a terminal."""
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
    """A stream that removes the blanks at the ends of lines, with which Rich fills columns."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        #: Rich draws lines only where the encoding has them.
        self._encoding = stream.encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]  # an attribute there, which cannot be set
        """The encoding of the stream."""
        return self._encoding

    def write(self, text: str, /) -> int:
        """Write whole lines without trailing blanks."""
        self._stream.write("\n".join(line.rstrip(" ") for line in text.split("\n")))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def count(jobs: int) -> str:
    """Return a number of jobs as text: `1 job`, `1,200 jobs`."""
    return "1 job" if jobs == 1 else f"{jobs:,} jobs"


def brief(value: Any, width: int = 400) -> str:
    """Return the value as JSON on one line, cut at `width` characters."""
    text = exact.dumps(value)
    return text if len(text) <= width else f"{text[:width]}…"
