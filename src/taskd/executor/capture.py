"""What attempts log and print inside an executor: caught by the context in which it is said, on its way to the worker."""

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
from taskd.executor.redirection import Stream, hear_logging, nobody, speaker
from taskd.executor.results import to_text
from taskd.executor.tracebacks import describe
from taskd.runtime.stdio import Steady
from taskd.seams import Order
from taskd.worker.pool.crash_buffer import CrashBuffer

#: Seconds that a line may wait for others before it is told.
EVERY = 0.25
#: Bytes of one line; of the lines that are told, and stored, together.
MAX_LINE, MAX_CHUNK = 4096, 8192
#: Chunks from which on a message takes no further attempt's.
MANY = 200
#: Bytes of the name of a level.
MAX_LEVEL = 40
#: Lines of one attempt that wait to be told, apart from its first part.
MOST = 2000
#: What every line of taskd's logger has in an executor, and nobody wants to read again in an attempt's own output.
EVERYWHERE = frozenset({"event", "level", "role", "worker", "timestamp"})

#: A line's number, and the line in JSON: encoded once, for the worker and for the last words.
Numbered = tuple[int, bytes]


class OutputBuffer:
    """What one attempt says. Any of its threads may speak; the loop's takes.

    No locks: appending to a deque and taking the next number are one step each. Numbers are given before anything is thrown
    away, so that whoever reads sees how much that was.
    """

    __slots__ = ("_capture", "_head", "_numbers", "_partial", "_tail", "order", "room")

    def __init__(self, order: Order, capture: Capture) -> None:
        self.order = order
        self._capture = capture
        self._numbers = itertools.count(1)
        self._head: deque[Numbered] = deque()
        self._tail: deque[Numbered] = deque(maxlen=MOST)
        self._partial: dict[Source, str] = {}
        #: Bytes that the first part may still have.
        self.room = capture.limit // 2

    def write(self, source: Source, text: str) -> None:
        """What was written to a stream: lines, and the beginning of one."""
        if type(text) is not str:  # a subclass may split in ways of its own, and is no text to who encodes it
            text = str.__str__(text)
        if text == "\n":  # `print` writes it by itself
            self.say(source, "", self._partial.pop(source, ""))
            return
        if source in self._partial:
            text = self._partial.pop(source, "") + text  # another thread of the attempt's may take it meanwhile
        if "\n" in text:
            *lines, text = text.split("\n")
            for line in lines:
                self.say(source, "", line)
        if text:
            # Of a line that is written over and over (a progress bar) the latest counts.
            kept = text[text.rfind("\r", 0, -1) + 1 :]
            if len(kept) > MAX_LINE:
                self.say(source, "", kept)
            else:
                self._partial[source] = kept

    def say(self, source: Source, level: str, text: str) -> None:
        """One line, or several that belong together."""
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
        self._capture.spoken(self, number, line, tail=tail)

    def close(self) -> None:
        """The attempt has ended: lines that were not ended are lines too."""
        for source in list(self._partial):
            text = self._partial.pop(source, None)  # a thread that was left behind may end the line now
            if text is not None:
                self.say(source, "", text)

    def take(self) -> list[Chunk]:
        """What was said since the last time, the newest of it if it is too much."""
        chunks = self._chunks(self._head, tail=False)
        if not self._tail:
            return chunks
        last = self._chunks(self._tail, tail=True)
        size = 0
        for place in range(len(last) - 1, -1, -1):
            size += len(last[place].body)
            if size > self._capture.limit // 2 and place < len(last) - 1:
                return chunks + last[place + 1 :]
        return chunks + last

    def _chunks(self, said: deque[Numbered], *, tail: bool) -> list[Chunk]:
        chunks: list[Chunk] = []
        lines: list[bytes] = []
        first = size = 0
        while said:
            number, line = said.popleft()
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
    """1. Stands in for stdout and stderr, which go on as they did. 2. Hears `logging` and taskd's logger. 3. Tells the worker
    what was said, about four times a second; an attempt's end takes the rest along. 4. Writes each line where the worker
    finds it, should this process crash before that.
    """

    def __init__(self, limit: int, last_words: CrashBuffer, tell: Callable[[list[Chunk]], None]) -> None:
        self.limit = limit
        self._last_words = last_words
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        #: Hear `logging` no longer.
        self.uninstall: Callable[[], None] = _nothing
        self._new: dict[OutputBuffer, None] = {}
        self._due = False
        self._on = True
        os.register_at_fork(after_in_child=self._off)

    def install(self, level: str) -> None:
        """Catch from now on what is printed, and what is logged at this level or above."""
        assert isinstance(sys.stdout, Steady)
        assert isinstance(sys.stderr, Steady)
        sys.stdout = sys.__stdout__ = Stream("stdout", sys.stdout)  # type: ignore[misc]  # final there
        sys.stderr = sys.__stderr__ = Stream("stderr", sys.stderr)  # type: ignore[misc]
        self.uninstall = hear_logging(level)

    def voice(self, order: Order) -> OutputBuffer | None:
        """For an attempt that says something for the first time."""
        return OutputBuffer(order, self) if self._on else None

    def spoken(self, voice: OutputBuffer, number: int, line: bytes, *, tail: bool) -> None:
        """A line was said. In any thread."""
        if not self._on:
            return
        self._last_words.write(voice.order.job_id, voice.order.attempt, number, line, tail=tail)
        self._new[voice] = None
        if not self._due:
            self._due = True
            self._loop.call_soon_threadsafe(self._begin)

    def flush(self) -> None:
        """Tell everything that was said. In the loop's thread."""
        chunks: list[Chunk] = []
        for voice in list(self._new):  # a copy, made in one step: any thread may add one meanwhile
            self._new.pop(voice, None)  # before it is asked: what is said meanwhile counts anew
            chunks += voice.take()
            if len(chunks) >= MANY:
                self._tell(chunks)
                chunks = []
        if chunks:
            self._tell(chunks)

    def last(self, voice: OutputBuffer) -> Chunk | None:
        """What an attempt that has ended has said since, for its end to take with it; if that is more than a chunk, it is told
        here. In the loop's thread."""
        self._new.pop(voice, None)
        chunks = voice.take()
        if len(chunks) == 1:
            return chunks[0]
        if chunks:
            self._tell(chunks)
        return None

    def _begin(self) -> None:
        self._loop.call_later(EVERY, self._tick)

    def _tick(self) -> None:
        self._due = False  # before the look: what comes after it begins the next one
        self.flush()
        self._last_words.turn()

    def _off(self) -> None:
        """A fork of this process: what it says is nobody's, and goes where it would without us."""
        self._on = False
        speaker.set(nobody)


def listen(speak: Callable[[], OutputBuffer | None]) -> None:
    """What is said in this context from here on is this one's."""
    speaker.set(speak)


def _nothing() -> None:
    """Nothing was installed."""


def tap(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog's: hears what attempts log by taskd's logger (`ctx.log`), and passes it on."""
    voice = speaker.get()()
    if voice is not None:
        try:
            text = _line(voice.order, event)
        except Exception as error:  # noqa: BLE001  a value's own code may raise anything, and logging is no reason to fail
            text = f"a line that cannot be shown ({type(error).__name__})"
        voice.say("log", str(event.get("level", "")), text)
    return event


def _line(order: Order, event: MutableMapping[str, Any]) -> str:
    own = {"job": order.job_id, "attempt": order.attempt, "task": order.task}
    raised = event.get("exc_info")
    fields = [
        f"{name}={value if isinstance(value, str) and ' ' not in value else repr(value)}"
        for name, value in event.items()
        if name not in EVERYWHERE and name != "exc_info" and own.get(name) != value
    ]
    text = " ".join([str(event.get("event", "")), *fields])
    error = raised if isinstance(raised, BaseException) else sys.exception() if raised else None
    return text if error is None else f"{text}\n{describe(error)}"
