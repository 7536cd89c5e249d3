"""Catches the output of attempts: in the standard streams, and in the method that every record of `logging` passes."""

from __future__ import annotations

import contextvars
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

from taskd.domain.output import Source
from taskd.runtime.stdio import Steady, open_input

#: Seconds between looks at the descriptors that a task may have closed: each costs three system calls.
LOOK_EVERY = 1.0
_STREAMS = ("stdout", "stderr")


class OutputTarget(Protocol):
    """One attempt's output."""

    def write(self, source: Source, text: str) -> None:
        """Take a part of a line, or several lines."""

    def add(self, source: Source, level: str, text: str) -> None:
        """Take one line, or several that belong together."""


def no_output() -> None:
    """Return None: output of this context belongs to no attempt, and is not kept."""
    return


#: Returns the output of the attempt of this context.
output: contextvars.ContextVar[Callable[[], Any]] = contextvars.ContextVar("output", default=no_output)


def current_output() -> OutputTarget | None:
    """Return the output of the attempt of this context; None outside of attempts."""
    target: OutputTarget | None = output.get()()
    return target


class Stream(Steady):
    """A standard stream that also passes what attempts write to their output."""

    def __init__(self, source: Literal["stdout", "stderr"], before: Steady) -> None:
        super().__init__(before.sink, 1 if source == "stdout" else 2, before)
        self._source = source

    def write(self, text: str, /) -> int:
        """Write the text, also to the attempt's output."""
        written = super().write(text)
        target: OutputTarget | None = output.get()()
        if target is not None:
            target.write(self._source, text)
        return written


class Streams:
    """The executor's stdout and stderr. A task may close or replace them and not put them back; later ones print on."""

    def __init__(self) -> None:
        self._own: tuple[Any, ...] = tuple(getattr(sys, name) for name in _STREAMS)
        self._usual = self._own
        self._foreign = False
        self._check_at = 0.0

    def accept(self) -> None:
        """Take for usual the streams that the app has set while it was imported and started.

        A stream around the binary side of ours (for another encoding) gives way: its text would not be caught.
        """
        for name, own in zip(_STREAMS, self._own, strict=True):
            now = getattr(sys, name)
            if _unusable(now) or getattr(now, "buffer", None) is own.buffer:
                setattr(sys, name, own)
        self._usual = tuple(getattr(sys, name) for name in _STREAMS)
        self._foreign = self._usual != self._own

    def restore(self, *, alone: bool) -> None:
        """Put back the usual streams, before an attempt begins.

        While others run (not `alone`) one of them may have replaced a stream for its own time: only an unusable one is put
        back.
        """
        if (sys.stdout, sys.stderr) != self._usual or self._foreign:
            self._put_back(alone)
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + LOOK_EVERY
            open_input()
            for number, own in enumerate(self._own, 1):
                own.sink.reopen(number)

    def _put_back(self, alone: bool) -> None:
        for name, usual, own in zip(_STREAMS, self._usual, self._own, strict=True):
            now = getattr(sys, name)
            if _unusable(now) or (alone and now is not usual):
                setattr(sys, name, own if _unusable(usual) else usual)


def _unusable(stream: Any) -> bool:
    try:
        return stream is None or bool(stream.closed)
    except AttributeError:  # a stand-in with nothing but `write`
        return False
    except Exception:  # noqa: BLE001  it was detached, or is no stream
        return True


def capture_logging(level: str) -> Callable[[], None]:
    """Pass what attempts log at this level or above to their output, however the app configures logging. Return the undo.

    Each record passes `Logger.handle`, and `Logger.isEnabledFor` before it, wherever handlers hang. So the levels, handlers
    and propagation that a configuration gives to the root or others do not decide what is caught. But a level that is set for
    a logger other than the root means that it is to be quiet, and its filters hold.
    """
    logger_class, floor = logging.Logger, int(logging.getLevelName(level))
    enabled, handle = logger_class.isEnabledFor, logger_class.handle
    format_line = logging.Formatter("%(name)s: %(message)s").format

    def is_enabled_for(self: logging.Logger, level: int) -> bool:
        return enabled(self, level) or (level >= floor and level >= _own_level(self) and current_output() is not None)

    def catch_and_handle(self: logging.Logger, record: logging.LogRecord) -> None:
        target = current_output() if record.levelno >= floor else None
        if target is None:
            handle(self, record)
            return
        passed: Any = self.filter(record)
        if not passed:
            return
        if isinstance(passed, logging.LogRecord):  # a filter may give another one, from Python 3.12 on
            record = passed
        if record.levelno >= _own_level(self):
            target.add("log", record.levelname.lower(), _text(record, format_line))
        if not self.disabled and enabled(self, record.levelno):
            token = output.set(no_output)  # a handler that writes to stderr would add the line for a second time
            try:
                self.callHandlers(record)
            finally:
                output.reset(token)

    def undo() -> None:
        logger_class.isEnabledFor, logger_class.handle = enabled, handle  # type: ignore[method-assign]

    logger_class.isEnabledFor, logger_class.handle = is_enabled_for, catch_and_handle  # type: ignore[method-assign]
    return undo


def _own_level(logger: logging.Logger) -> int:
    """Return the level that the app has set for the logger or for one above it, the root left out."""
    current: logging.Logger | None = logger
    while current is not None and current.parent is not None:
        if current.level:
            return current.level
        current = current.parent
    return logging.NOTSET


def _text(record: logging.LogRecord, format_line: Callable[[logging.LogRecord], str]) -> str:
    try:
        return format_line(record)
    except Exception as error:  # noqa: BLE001  arguments that do not fit, or whose own code raises
        return (
            f"{record.name}: {type(record.msg).__name__ if not isinstance(record.msg, str) else record.msg} ({error!r})"
        )
