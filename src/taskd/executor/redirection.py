"""Where an attempt's output is heard: the standard streams, and the one door that every record of `logging` goes through."""

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

    def say(self, source: Source, level: str, text: str) -> None:
        """Take one line, or several that belong together."""


def nobody() -> None:
    """No attempt: what is said is not kept."""
    return


#: The attempt that speaks in this context.
speaker: contextvars.ContextVar[Callable[[], Any]] = contextvars.ContextVar("speaker", default=nobody)


def speaking() -> OutputTarget | None:
    """The output of the attempt that speaks in this context."""
    found: OutputTarget | None = speaker.get()()
    return found


class Stream(Steady):
    """A standard stream that hears what attempts write to it."""

    def __init__(self, source: Literal["stdout", "stderr"], before: Steady) -> None:
        super().__init__(before.sink, 1 if source == "stdout" else 2, before)
        self._source = source

    def write(self, text: str, /) -> int:
        """As of any stream."""
        written = super().write(text)
        voice: OutputTarget | None = speaker.get()()
        if voice is not None:
            voice.write(self._source, text)
        return written


class Streams:
    """The executor's stdout and stderr. A task may close them, replace them or forget to put them back; later ones print on."""

    def __init__(self) -> None:
        self._own: tuple[Any, ...] = tuple(getattr(sys, name) for name in _STREAMS)
        self._usual = self._own
        self._foreign = False
        self._due = 0.0

    def adopt(self) -> None:
        """Take for usual what the app has made of them while it was imported and started.

        A stream of its own around the binary side (for another encoding) gives way: its text would not be heard.
        """
        for name, own in zip(_STREAMS, self._own, strict=True):
            now = getattr(sys, name)
            if _unusable(now) or getattr(now, "buffer", None) is own.buffer:
                setattr(sys, name, own)
        self._usual = tuple(getattr(sys, name) for name in _STREAMS)
        self._foreign = self._usual != self._own

    def look(self, *, alone: bool) -> None:
        """An attempt begins: put back what an earlier one has left. While others run (not `alone`) one may have replaced them
        for its own time, and only what is unusable is put back."""
        if (sys.stdout, sys.stderr) != self._usual or self._foreign:
            self._put_back(alone)
        now = time.monotonic()
        if now >= self._due:
            self._due = now + LOOK_EVERY
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


def hear_logging(level: str) -> Callable[[], None]:
    """Hear what attempts log at this level or above, whatever the app makes of logging's configuration. Returns the way back.

    Each record passes `Logger.handle`, and `Logger.isEnabledFor` before it, wherever handlers hang. So neither the level, the
    handlers nor the propagation that a set-up gives the root or others decide what is heard; but a level that is set for a
    logger other than the root means that it is to be quiet, and its filters hold.
    """
    logger_class, floor = logging.Logger, int(logging.getLevelName(level))
    enabled, handle = logger_class.isEnabledFor, logger_class.handle
    format_line = logging.Formatter("%(name)s: %(message)s").format

    def is_enabled_for(self: logging.Logger, level: int) -> bool:
        return enabled(self, level) or (level >= floor and level >= _own_level(self) and speaking() is not None)

    def hear_and_handle(self: logging.Logger, record: logging.LogRecord) -> None:
        voice = speaking() if record.levelno >= floor else None
        if voice is None:
            handle(self, record)
            return
        passed: Any = self.filter(record)
        if not passed:
            return
        if isinstance(passed, logging.LogRecord):  # a filter may give another one, from Python 3.12 on
            record = passed
        if record.levelno >= _own_level(self):
            voice.say("log", record.levelname.lower(), _text(record, format_line))
        if not self.disabled and enabled(self, record.levelno):
            silence = speaker.set(nobody)  # a handler that writes to stderr would say the line for a second time
            try:
                self.callHandlers(record)
            finally:
                speaker.reset(silence)

    def undo() -> None:
        logger_class.isEnabledFor, logger_class.handle = enabled, handle  # type: ignore[method-assign]

    logger_class.isEnabledFor, logger_class.handle = is_enabled_for, hear_and_handle  # type: ignore[method-assign]
    return undo


def _own_level(logger: logging.Logger) -> int:
    """The level that the app has set for it or for a logger above it, the root left out."""
    found: logging.Logger | None = logger
    while found is not None and found.parent is not None:
        if found.level:
            return found.level
        found = found.parent
    return logging.NOTSET


def _text(record: logging.LogRecord, format_line: Callable[[logging.LogRecord], str]) -> str:
    try:
        return format_line(record)
    except Exception as error:  # noqa: BLE001  arguments that do not fit, or whose own code raises
        return (
            f"{record.name}: {type(record.msg).__name__ if not isinstance(record.msg, str) else record.msg} ({error!r})"
        )
