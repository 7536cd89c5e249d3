"""Memory that an executor shares with its worker: its tasks' latest output, in case it crashes before it has sent that."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import threading
from typing import NamedTuple

import msgspec

from taskd.domain.job import AttemptId
from taskd.domain.output import Line

#: Bytes of each of the two halves.
HALF = 128 * 1024
_USED = struct.Struct("=I")
#: An entry begins with the size of its rest, the job, the attempt, the number, and whether it is of the tail. The line follows.
_HEAD = struct.Struct("=Iqiq?")
_REST = struct.Struct("=qiq?")


class CrashEntry(NamedTuple):
    """One line of an attempt, with its number. `tail`: it is of the last part of the attempt's output."""

    attempt_id: AttemptId
    number: int
    tail: bool
    line: Line


def create() -> int:
    """Make a file in memory, to be inherited by the executor; return its descriptor. Raises OSError."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("taskd-crash-buffer")
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
    """The executor's side. The two halves are written in turn: while one is new, the other still has the lines before, which
    were sent only a moment ago, or not at all."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, 2 * HALF)
        self._lock = threading.Lock()
        #: The thread that holds the lock.
        self._owner = 0
        self._start = 0
        self._used = 0

    def write(self, job_id: int, attempt: int, number: int, line: bytes, *, tail: bool) -> None:
        """Keep a line (JSON). Any thread may call; there is no system call.

        A line that is written while this thread is in here already (by a finalizer that the garbage collector runs, or by a
        signal's handler) is not kept: the thread would wait for itself for ever.
        """
        entry = _HEAD.pack(_REST.size + len(line), job_id, attempt, number, tail) + line
        me = threading.get_ident()
        if self._owner == me:
            return
        with self._lock:
            self._owner = me
            try:
                if self._used + len(entry) > HALF - _USED.size:
                    self._switch()
                position = self._start + _USED.size + self._used
                self._memory[position : position + len(entry)] = entry
                self._used += len(entry)
                _USED.pack_into(self._memory, self._start, self._used)  # last: what is counted is there
            finally:
                self._owner = 0

    def turn(self) -> None:
        """Begin the other half. The lines so far are on their way to the worker, and are kept for one turn more."""
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
    """Return the entries, of each attempt in the order of its numbers. For the worker; it stops at what is no entry."""
    decoder = msgspec.json.Decoder(Line)
    entries: list[CrashEntry] = []
    for start in (0, HALF):
        half = os.pread(fd, HALF, start)
        (used,) = _USED.unpack_from(half)
        position, end = _USED.size, _USED.size + min(used, HALF - _USED.size)
        while position + _USED.size <= end:
            (size,) = _USED.unpack_from(half, position)
            position += _USED.size
            rest = half[position : position + size]
            try:
                job_id, attempt, number, tail = _REST.unpack_from(rest)
                entries.append(CrashEntry(AttemptId(job_id, attempt), number, tail, decoder.decode(rest[_REST.size :])))
            except (struct.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                break  # the task has written there itself
            position += size
    return sorted(entries, key=lambda entry: entry[:2])
