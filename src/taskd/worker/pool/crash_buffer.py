"""Memory that an executor shares with its worker: what its tasks said lately, in case it crashes before it tells."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import threading
from typing import NamedTuple

import msgspec

from taskd.domain.output import Line

#: Bytes of each of the two halves.
HALF = 128 * 1024
_USED = struct.Struct("=I")
#: Of a word: the bytes that follow its length, the job, the attempt, the number, and whether it is of the tail. Then the line.
_HEAD = struct.Struct("=Iqiq?")
_REST = struct.Struct("=qiq?")


class CrashEntry(NamedTuple):
    """One line, whose it is, and its number. `tail`: it came after the first part of what its attempt has said."""

    job_id: int
    attempt: int
    number: int
    tail: bool
    line: Line


def create() -> int:
    """A file in memory, to be given to the executor; its descriptor. Raises OSError."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("taskd-last-words")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    try:
        os.ftruncate(fd, 2 * HALF)
    except OSError:
        os.close(fd)
        raise
    return fd


class CrashBuffer:
    """The executor's side. The two halves are written in turn: while one is new, the other still has what was before, which was
    told perhaps only a moment ago, or not at all."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, 2 * HALF)
        self._lock = threading.Lock()
        #: The thread that holds the lock.
        self._owner = 0
        self._start = 0
        self._used = 0

    def write(self, job_id: int, attempt: int, number: int, line: bytes, *, tail: bool) -> None:
        """Keep a line (JSON). In any thread; it makes no system call.

        One that is said while this thread is here already (by what the garbage collector ends, by a signal's handler) is not
        kept, rather than waited for by itself for ever.
        """
        word = _HEAD.pack(_REST.size + len(line), job_id, attempt, number, tail) + line
        me = threading.get_ident()
        if self._owner == me:
            return
        with self._lock:
            self._owner = me
            try:
                if self._used + len(word) > HALF - _USED.size:
                    self._switch()
                place = self._start + _USED.size + self._used
                self._memory[place : place + len(word)] = word
                self._used += len(word)
                _USED.pack_into(self._memory, self._start, self._used)  # last: what is counted is there
            finally:
                self._owner = 0

    def turn(self) -> None:
        """What was kept is on its way to the worker: it is needed for one turn more."""
        with self._lock:
            self._owner = threading.get_ident()
            try:
                self._switch()
            finally:
                self._owner = 0

    def _switch(self) -> None:
        self._start, self._used = HALF - self._start, 0
        _USED.pack_into(self._memory, self._start, 0)


def read(fd: int) -> list[CrashEntry]:
    """The worker's side: what is kept, of each attempt in the order of its numbers. What makes no sense ends it."""
    decoder = msgspec.json.Decoder(Line)
    words: list[CrashEntry] = []
    for start in (0, HALF):
        half = os.pread(fd, HALF, start)
        (used,) = _USED.unpack_from(half)
        place, end = _USED.size, _USED.size + min(used, HALF - _USED.size)
        while place + _USED.size <= end:
            (size,) = _USED.unpack_from(half, place)
            place += _USED.size
            word = half[place : place + size]
            try:
                job_id, attempt, number, tail = _REST.unpack_from(word)
                words.append(CrashEntry(job_id, attempt, number, tail, decoder.decode(word[_REST.size :])))
            except (struct.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                break  # the task has written there itself
            place += size
    return sorted(words, key=lambda word: word[:3])
