"""The three standard streams: closed ones are opened to /dev/null, and a failure to write to them is no failure of the work.

Only the standard library is imported here, and little of it: this comes before everything else.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
from typing import Any, TextIO

from taskd.runtime.sink import Sink


def open_closed() -> None:
    """Open those of the descriptors 0, 1 and 2 that are closed to /dev/null.

    The next file or socket would get the number of a closed one, and whatever prints would write into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115  it stays
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def open_input() -> None:
    """Open descriptor 0 to /dev/null if it was closed: programs that are started inherit it."""
    try:
        os.fstat(0)
    except OSError:
        with contextlib.suppress(OSError):
            opened = os.open(os.devnull, os.O_RDONLY)
            if opened == 0:  # the lowest free number, unless another thread was faster
                os.set_inheritable(0, True)
            else:
                os.close(opened)


def steady_stderr() -> None:
    """Let a command go on when writing to its stderr fails. It waits for a slow reader."""
    sys.stderr = Steady(Sink(2, None), 2, sys.stderr)


def steady(patience: float = 0.0) -> None:
    """Let a long-running process go on, whatever its stdout and stderr lead to. A second call does nothing.

    `patience` is the sink's.
    """
    if isinstance(sys.stdout, Steady) and isinstance(sys.stderr, Steady) and sys.stderr.sink.prompt:
        return
    err = Sink(2, patience)
    out = err if os.path.sameopenfile(1, 2) else Sink(1, patience)
    sys.stdout = sys.__stdout__ = Steady(out, 1, sys.stdout)  # type: ignore[misc]  # final there, and the way around the capture
    sys.stderr = sys.__stderr__ = Steady(err, 2, sys.stderr)  # type: ignore[misc]
    for sink in {out, err}:
        atexit.register(sink.finish)


def descriptor() -> int:
    """Return a descriptor that always refers to the file behind stderr."""
    return sys.stderr.sink.fd if isinstance(sys.stderr, Steady) else 2


def lines_lost() -> int:
    """Return the number of lines that this process could not write."""
    sinks = {stream.sink for stream in (sys.__stdout__, sys.__stderr__) if isinstance(stream, Steady)}
    return sum(sink.lost for sink in sinks)


class Outlet(io.BufferedIOBase):
    """The binary side of a standard stream. No call on it harms the next writer."""

    mode = "wb"

    def __init__(self, sink: Sink, number: int) -> None:
        self.sink = sink
        self.name = f"<{'stdout' if number == 1 else 'stderr'}>"
        self._number = number

    def write(self, data: Any, /) -> int:
        """Accept all the data."""
        data = bytes(data)
        self.sink.write(data)
        return len(data)

    def writable(self) -> bool:
        """Return True."""
        return True

    def flush(self) -> None:
        """Do nothing: everything that can be written is written."""

    def close(self) -> None:
        """Do nothing: other writers go on with the stream."""

    def detach(self) -> Any:
        """The stream itself: there is no lower layer."""
        return self

    def fileno(self) -> int:
        """Return the descriptor, for child processes."""
        return self._number

    def isatty(self) -> bool:
        """Return True for a terminal."""
        return os.isatty(self.sink.spare)


class Steady(io.TextIOWrapper):
    """A standard stream that cannot be closed, and never raises a failure to write."""

    def __init__(self, sink: Sink, number: int, before: TextIO) -> None:
        with contextlib.suppress(OSError, ValueError):
            before.flush()
        super().__init__(Outlet(sink, number), before.encoding, before.errors, line_buffering=True, write_through=True)
        self.mode = "w"  # type: ignore[misc]  # an attribute of what `open` returns
        self.sink = sink

    def close(self) -> None:
        """Do nothing: other writers go on with the stream."""

    def detach(self) -> Any:
        """Return the binary side, which this stream goes on using."""
        return self.buffer
