"""The output of attempts inside an executor: caught by the context in which it is written, and sent to the worker."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec

from taskd.domain.output import Chunk, Source
from taskd.executor.redirection import Stream, capture_logging, no_output, output
from taskd.executor.results import to_text
from taskd.executor.tracebacks import describe
from taskd.runtime.stdio import Steady
from taskd.seams import Order
from taskd.worker.pool.crash_buffer import CrashBuffer

#: Seconds that a line may wait for others before it is sent.
EVERY = 0.25
#: The most bytes of one line; and of the lines that are sent, and stored, together.
MAX_LINE, MAX_CHUNK = 4096, 8192
#: Chunks from which on a message takes no further attempt's.
MANY = 200
#: The most bytes of the name of a level.
MAX_LEVEL = 40
#: The most lines of one attempt that wait to be sent, apart from its first part.
MAX_TAIL = 2000
#: Fields that every line of taskd's logger has in an executor. An attempt's own output leaves them out.
COMMON_FIELDS = frozenset({"event", "level", "role", "worker", "timestamp"})

#: A line's number, and the line in JSON: encoded once, for the worker and for the crash buffer.
Numbered = tuple[int, bytes]


class OutputBuffer:
    """The output of one attempt. Any of its threads may write; the loop's thread takes.

    There are no locks: appending to a deque and taking the next number are one step each. A line gets its number before it may
    be thrown away, so that a reader sees how many are missing.
    """

    __slots__ = ("_capture", "_head", "_numbers", "_partial", "_tail", "order", "room")

    def __init__(self, order: Order, capture: Capture) -> None:
        self.order = order
        self._capture = capture
        self._numbers = itertools.count(1)
        self._head: deque[Numbered] = deque()
        self._tail: deque[Numbered] = deque(maxlen=MAX_TAIL)
        self._partial: dict[Source, str] = {}
        #: Bytes that the first part may still have.
        self.room = capture.limit // 2

    def write(self, source: Source, text: str) -> None:
        """Take a text that was written to a stream: lines, and the beginning of one."""
        if type(text) is not str:  # a subclass may split in ways of its own, and the encoder refuses it
            text = str.__str__(text)
        if text == "\n":  # `print` writes it by itself
            self.add(source, "", self._partial.pop(source, ""))
            return
        if source in self._partial:
            text = self._partial.pop(source, "") + text  # another thread of the attempt's may take it meanwhile
        if "\n" in text:
            *lines, text = text.split("\n")
            for line in lines:
                self.add(source, "", line)
        if text:
            # Of a line that is written over and over (a progress bar) the latest version counts.
            kept = text[text.rfind("\r", 0, -1) + 1 :]
            if len(kept) > MAX_LINE:
                self.add(source, "", kept)
            else:
                self._partial[source] = kept

    def add(self, source: Source, level: str, text: str) -> None:
        """Take one line, or several that belong together."""
        if "\r" in text:
            text = text.rstrip("\r")
            text = text[text.rfind("\r") + 1 :]
        if len(text) > MAX_LINE or not text.isascii() or "\0" in text:
            text = to_text(text, MAX_LINE).decode()
        if not (level.isascii() and level.isprintable()):
            level = to_text(level, MAX_LEVEL).decode()
        number, line, tail = next(self._numbers), _encode((time.time(), source, level, text)), self.room <= 0
        if tail:
            self._tail.append((number, line))
        else:
            self.room -= len(line)
            self._head.append((number, line))
        self._capture.line_added(self, number, line, tail=tail)

    def close(self) -> None:
        """Make lines of the texts without a line's end: the attempt has ended."""
        for source in list(self._partial):
            text = self._partial.pop(source, None)  # a thread that was left behind may end the line now
            if text is not None:
                self.add(source, "", text)

    def take(self) -> list[Chunk]:
        """Remove and return the lines since the last call, only the newest of them if they are too many."""
        chunks = self._chunks(self._head, tail=False)
        if not self._tail:
            return chunks
        newest = self._chunks(self._tail, tail=True)
        size = 0
        for index in range(len(newest) - 1, -1, -1):
            size += len(newest[index].body)
            if size > self._capture.limit // 2 and index < len(newest) - 1:
                return chunks + newest[index + 1 :]
        return chunks + newest

    def _chunks(self, numbered: deque[Numbered], *, tail: bool) -> list[Chunk]:
        chunks: list[Chunk] = []
        lines: list[bytes] = []
        first = size = 0
        while numbered:
            number, line = numbered.popleft()
            if lines and (number != first + len(lines) or size > MAX_CHUNK):
                chunks.append(self._chunk(first, lines, tail))
                lines, size = [], 0
            if not lines:
                first = number
            lines.append(line)
            size += len(line)
        if lines:
            chunks.append(self._chunk(first, lines, tail))
        return chunks

    def _chunk(self, first: int, lines: list[bytes], tail: bool) -> Chunk:
        return Chunk(self.order.job_id, self.order.attempt, first, len(lines), tail, b"[%b]" % b",".join(lines))


_encode = msgspec.json.Encoder().encode


class Capture:
    """Catches the output of attempts.

    1. Stands in for stdout and stderr, which still write to where they did. 2. Catches the records of `logging` and taskd's
    logger. 3. Sends the lines to the worker about four times a second; an attempt's end takes the rest along. 4. Writes each
    line to the crash buffer, where the worker finds it if this process crashes before it has sent the line.
    """

    def __init__(self, limit: int, crash_buffer: CrashBuffer, send: Callable[[list[Chunk]], None]) -> None:
        self.limit = limit
        self._crash_buffer = crash_buffer
        self._send = send
        self._loop = asyncio.get_running_loop()
        #: Stop catching the records of `logging`.
        self.uninstall: Callable[[], None] = _nothing
        self._unsent: dict[OutputBuffer, None] = {}
        self._scheduled = False
        self._on = True
        os.register_at_fork(after_in_child=self._switch_off)

    def install(self, level: str) -> None:
        """Catch from now on what is printed, and what is logged at this level or above."""
        assert isinstance(sys.stdout, Steady)
        assert isinstance(sys.stderr, Steady)
        sys.stdout = sys.__stdout__ = Stream("stdout", sys.stdout)  # type: ignore[misc]  # final there
        sys.stderr = sys.__stderr__ = Stream("stderr", sys.stderr)  # type: ignore[misc]
        self.uninstall = capture_logging(level)

    def buffer(self, order: Order) -> OutputBuffer | None:
        """Make the buffer of an attempt, for its first line; None in a fork."""
        return OutputBuffer(order, self) if self._on else None

    def line_added(self, buffer: OutputBuffer, number: int, line: bytes, *, tail: bool) -> None:
        """Keep a line for a crash, and schedule the sending. Any thread may call."""
        if not self._on:
            return
        self._crash_buffer.write(buffer.order.job_id, buffer.order.attempt, number, line, tail=tail)
        self._unsent[buffer] = None
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._begin)

    def flush(self) -> None:
        """Send all lines. In the loop's thread."""
        chunks: list[Chunk] = []
        for buffer in list(self._unsent):  # a copy, made in one step: any thread may add one meanwhile
            self._unsent.pop(buffer, None)  # before it is emptied: a line that comes meanwhile puts it back
            chunks += buffer.take()
            if len(chunks) >= MANY:
                self._send(chunks)
                chunks = []
        if chunks:
            self._send(chunks)

    def take_rest(self, buffer: OutputBuffer) -> Chunk | None:
        """Return the unsent lines of an attempt that has ended, for its End. In the loop's thread.

        If they are more than a chunk, they are sent here, and None is returned.
        """
        self._unsent.pop(buffer, None)
        chunks = buffer.take()
        if len(chunks) == 1:
            return chunks[0]
        if chunks:
            self._send(chunks)
        return None

    def _begin(self) -> None:
        self._loop.call_later(EVERY, self._tick)

    def _tick(self) -> None:
        self._scheduled = False  # before the flush: a line that comes after it schedules the next one
        self.flush()
        self._crash_buffer.turn()

    def _switch_off(self) -> None:
        """Catch nothing in a fork of this process: its output goes where it would go without taskd."""
        self._on = False
        output.set(no_output)


def attribute_output(buffer: Callable[[], OutputBuffer | None]) -> None:
    """Attribute the output of this context to an attempt from here on. `buffer` returns its buffer."""
    output.set(buffer)


def _nothing() -> None:
    """Do nothing: nothing was installed."""


def tap(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add a line of taskd's logger (`ctx.log`) to the attempt's output. A processor of structlog, which passes the event on."""
    buffer = output.get()()
    if buffer is not None:
        try:
            text = _line(buffer.order, event)
        except Exception as error:  # noqa: BLE001  a value's own code may raise anything, and logging is no reason to fail
            text = f"a line that cannot be shown ({type(error).__name__})"
        buffer.add("log", str(event.get("level", "")), text)
    return event


def _line(order: Order, event: MutableMapping[str, Any]) -> str:
    identity = {"job": order.job_id, "attempt": order.attempt, "task": order.job.task}
    raised = event.get("exc_info")
    fields = [
        f"{name}={value if isinstance(value, str) and ' ' not in value else repr(value)}"
        for name, value in event.items()
        if name not in COMMON_FIELDS and name != "exc_info" and identity.get(name) != value
    ]
    text = " ".join([str(event.get("event", "")), *fields])
    error = raised if isinstance(raised, BaseException) else sys.exception() if raised else None
    return text if error is None else f"{text}\n{describe(error)}"
