"""Decodes and checks the messages of an executor. User code runs there and can write anything to the connection.

A message that passes can be encoded, counted, waited for and stored in PostgreSQL. Any other breaks the stream: the worker
kills that executor, and its attempts count as crashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from taskd.domain.errors import LONGEST_SNOOZE
from taskd.domain.output import Chunk, Line
from taskd.worker.pool.protocol import (
    MAX_FRAME,
    MAX_LOCK_NAME,
    BrokenStream,
    End,
    EndKind,
    Ends,
    LockRequest,
    LogMessage,
    NoteMessage,
    Ready,
    ToWorker,
    Unusable,
)

#: The ranges of a job's id, and of PostgreSQL's int, which holds an attempt and a line's number.
MAX_ID, MAX_INT = 2**63 - 1, 2**31 - 1
#: The most lines of a chunk: PostgreSQL keeps the number as a smallint.
MAX_LINES = 2**15 - 1
#: The most tasks of an app, and characters of a task's name.
MAX_TASKS, MAX_NAME = 10_000, 500
#: Seconds: the longest time-out, and the longest wait for a lock.
LONGEST = 3_155_760_000.0
#: The most lines of its log that an executor may have lost.
MAX_LOST = 2**40
#: Bytes of one progress.
MAX_PROGRESS = 4096
#: Characters of the reason why an app cannot be loaded.
MAX_REASON = 100_000
#: Unix seconds at the end of the year 9998.
LAST_MOMENT = 253_370_764_800.0


class Limits(NamedTuple):
    """The most bytes of a result or checkpoint, and of an error's text or traceback."""

    result: int = MAX_FRAME
    error: int = MAX_FRAME


class _Progress(msgspec.Struct):
    attempt: Annotated[int, Meta(ge=0, le=MAX_INT)]
    fraction: Annotated[float, Meta(ge=0, le=1)]
    message: str = ""


_message = msgspec.msgpack.Decoder(ToWorker)
_json = msgspec.json.Decoder(msgspec.Raw)
_lines = msgspec.json.Decoder(list[Line])
_progress = msgspec.json.Decoder(_Progress)


def decode(frame: bytes, limits: Limits) -> ToWorker:
    """Return the message of a frame. Raises BrokenStream for a message that no executor of taskd sends."""
    try:
        message: ToWorker = _message.decode(frame)
        _check(message, limits)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise BrokenStream(f"{type(error).__name__}: {str(error)[:200]}") from None
    return message


def check_chunk(chunk: Chunk) -> None:
    """Raise ValueError, or an error of msgspec's, if the body is not lines with these numbers."""
    _check_attempt(chunk)
    _demand(0 <= chunk.line <= MAX_INT and 1 <= chunk.lines <= MAX_LINES and chunk.last <= MAX_INT, "numbers of lines")
    lines = _lines.decode(chunk.body)
    _demand(len(lines) == chunk.lines, "a count of lines")
    _demand(all(0 <= line.at <= LAST_MOMENT for line in lines), "times of lines")
    chunk.body.decode()


def _check(message: ToWorker, limits: Limits) -> None:
    match message:
        case Ends(ends):
            _demand(0 <= message.lines_lost <= MAX_LOST, "a number of lost lines")
            for end in ends:
                _check_end(end, limits)
        case NoteMessage():
            _check_note(message, limits)
        case LockRequest():
            _check_attempt(message)
            _demand(0 <= message.number <= MAX_ID, "a number")
            _demand(0 < len(message.name) <= MAX_LOCK_NAME and "\0" not in message.name, "a lock's name")
            _demand(message.wait is None or 0 <= message.wait <= LONGEST, "a wait")
        case LogMessage(chunks):
            for chunk in chunks:
                check_chunk(chunk)
        case Ready():
            _check_ready(message)
        case Unusable(reason):
            _demand(len(reason) <= MAX_REASON and "\0" not in reason, "a reason")
        case _:
            _check_attempt(message)
            _demand(0 <= message.number <= MAX_ID, "a number")


def _check_end(end: End, limits: Limits) -> None:
    # This runs once for each job, so the common case needs no further call.
    if not (0 <= end.job_id <= MAX_ID and 0 <= end.attempt <= MAX_INT):
        raise ValueError("expected an attempt")
    if end.kind is EndKind.COMPLETED:
        if end.data != b"null":
            _check_json(end.data, limits.result)
    else:
        _check_text(end.data, limits.error)
    if end.traceback:
        _check_text(end.traceback, limits.error)
    if isinstance(end.next_run, datetime):
        _demand(end.next_run.utcoffset() is not None, "an instant")
        end.next_run.timestamp()
    elif end.next_run is not None:
        _demand(0 <= end.next_run <= LONGEST_SNOOZE, "a delay")
    if end.output is not None:
        _demand(end.output.attempt_id == end.attempt_id, "lines of the same attempt")
        check_chunk(end.output)


def _check_note(note: NoteMessage, limits: Limits) -> None:
    _check_attempt(note)
    _demand(0 <= note.number <= MAX_ID, "a number")
    if note.progress is not None:
        _check_json(note.progress, MAX_PROGRESS)
        progress = _progress.decode(note.progress)
        _demand(progress.attempt == note.attempt and "\0" not in progress.message, "a progress")
    if note.checkpoint is not None:
        _check_json(note.checkpoint, limits.result)


def _check_ready(ready: Ready) -> None:
    _demand(len(ready.tasks) <= MAX_TASKS and len(ready.timeouts) <= MAX_TASKS, "a number of tasks")
    _demand(all(_is_name(name) for names in (ready.tasks, ready.timeouts) for name in names), "names of tasks")
    _demand(all(0 < seconds <= LONGEST for seconds in ready.timeouts.values()), "time-outs")


def _check_attempt(message: Any) -> None:
    _demand(0 <= message.job_id <= MAX_ID and 0 <= message.attempt <= MAX_INT, "an attempt")


def _check_json(data: bytes, most: int) -> None:
    _demand(len(data) <= most, "JSON within its limit")
    _json.decode(data)
    data.decode()


def _check_text(data: bytes, most: int) -> None:
    _demand(len(data) <= most and b"\0" not in data, "a text within its limit")
    data.decode()


def _is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name.isprintable()


def _demand(holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"expected {expected}")


def storable(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Return those of the chunks that can be stored."""
    sound = []
    for chunk in chunks:
        try:
            check_chunk(chunk)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        sound.append(chunk)
    return sound
