"""A sink for a process's output: writing to it never raises, and never waits for a stalled reader.

The descriptor is a private one, so that code which closes or replaces descriptors 1 and 2 does not reach it. What cannot be
written at once waits in memory, and a thread writes it. What does not fit there, or meets a broken pipe or a full disk, is
lost and counted. Limits: a write to a regular file waits as long as the file system does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import stat
import threading
import weakref
from collections.abc import Callable
from functools import partial

#: Bytes that wait in memory, and bytes of one write of them.
MOST, PART = 2**20, 2**16
#: Seconds that the end of the process waits for the reader.
FLUSH_TIMEOUT = 1.0

#: Writes a part of these bytes, and returns its length. Raises OSError, and BlockingIOError instead of waiting.
Put = Callable[[bytes], int]


def _plain(lines: int) -> bytes:
    return b"taskd: %d lines of the log were lost: nothing could be written here\n" % lines


class Sink:
    """One open file, written to in order. Any thread may write.

    `patience` is for how many seconds a writer waits for room when the memory is full. After it the reader counts as stalled,
    and nothing waits until it has read something. `None` is for commands: they wait for their reader, however long it takes.
    """

    def __init__(self, number: int, patience: float | None) -> None:
        self.number = number
        #: The number of lost lines. It only rises.
        self.lost = 0
        #: The notice about lost lines, written once writing works again.
        self.notice: Callable[[int], bytes] = _plain
        #: A copy of the descriptor, which blocks as the original does.
        self.spare = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
        #: A descriptor that always refers to the same file.
        self.fd = self.spare
        #: True if writing does not wait for the reader.
        self.prompt = patience is not None
        self._patience = patience
        self._put = self._waiting if patience is None else self._prompt()
        self._lock = threading.RLock()  # the garbage collector may run what prints, inside of a write
        self._backlog = bytearray()
        self._thread: threading.Thread | None = None
        self._room = threading.Event()
        self._stalled = False
        self._unreported = 0
        self._torn = False
        _sinks.add(self)

    def write(self, data: bytes) -> None:
        """Write the data, keep it for later, or lose it."""
        if len(data) > PART:  # one part after the other gets room
            for start in range(0, len(data), PART):
                self.write(data[start : start + PART])
            return
        if self._patience and not self._stalled and self._is_full(len(data)):
            self._stalled = not self._room.wait(self._patience)
        with self._lock:
            if self._backlog:
                self._keep(data)
            else:
                self._write(data)

    def finish(self) -> None:
        """Give the reader a moment for the waiting bytes."""
        thread = self._thread
        if thread is not None:
            thread.join(FLUSH_TIMEOUT)

    def reopen(self, number: int) -> None:
        """Open this descriptor again if it was closed."""
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(self.spare, number)

    def forked(self) -> None:
        """Become a plain stream in the child of a fork, which may lead descriptors 1 and 2 elsewhere and has no thread."""
        self._lock, self._thread, self._room = threading.RLock(), None, threading.Event()
        self._backlog.clear()
        self.fd, self._patience, self._put = self.number, None, self._waiting

    def _is_full(self, more: int) -> bool:
        """Return True if there is no room for so many bytes. The thread then reports when there is."""
        if len(self._backlog) + more <= MOST:
            return False
        with self._lock:
            full = len(self._backlog) + more > MOST
            if full:
                self._room.clear()
        return full

    def _write(self, data: bytes) -> None:
        """Write now, after the notice of earlier losses. The caller holds the lock."""
        head = b""
        if self._unreported:
            head = (b"\n" if self._torn else b"") + self.notice(self._unreported)
        whole = left = head + data if head else data
        keep = False
        try:
            while left:
                left = left[self._put(left) :]
        except BlockingIOError:
            keep = True
        except OSError:
            pass
        if written := len(whole) - len(left):
            self._torn = whole[written - 1 : written] != b"\n"
        if len(left) <= len(data):
            self._unreported = 0  # the notice is written
        if left and keep and len(left) <= len(data):
            self._keep(left)
        elif left:
            self._lose(left[-len(data) :] if data else b"")

    def _keep(self, data: bytes) -> None:
        if len(self._backlog) + len(data) > MOST:
            self._lose(data)
            return
        self._backlog += data
        if self._thread is None:
            self._thread = threading.Thread(target=self._drain, name="log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no thread can be made, or the interpreter ends
                self._thread = None
                self._lose(bytes(self._backlog))
                self._backlog.clear()

    def _lose(self, data: bytes) -> None:
        lines = data.count(b"\n")
        self.lost += lines
        self._unreported += lines

    def _drain(self) -> None:
        """Write the waiting bytes, as fast as the reader takes them, until none is left."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while True:
            poll.poll(1000)
            with self._lock:
                try:
                    del self._backlog[: self._put(bytes(self._backlog[:PART]))]
                except BlockingIOError:
                    continue
                except OSError:
                    self._torn = True
                    self._lose(bytes(self._backlog))
                    self._backlog.clear()
                self._stalled = False
                if len(self._backlog) <= MOST // 2:
                    self._room.set()
                if not self._backlog:
                    self._thread = None
                    if self._unreported:
                        self._write(b"")
                    return

    # ------------------------------------------------------------------ how to write

    def _prompt(self) -> Put:
        """Return a function that writes without waiting for a reader, whatever the file is."""
        mode = os.fstat(self.spare).st_mode
        if stat.S_ISSOCK(mode):
            return self._sending
        if not (stat.S_ISFIFO(mode) or os.isatty(self.spare)):
            return partial(os.write, self.fd)
        # O_NONBLOCK belongs to the open file, which other processes share. So this one opens it for itself.
        try:
            own = os.open(f"/proc/self/fd/{self.spare}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:  # no /proc, or the file belongs to another user, or the reader is gone
            return self._looking
        self.fd = own
        return partial(os.write, own)

    def _sending(self, data: bytes) -> int:
        line = socket.socket(fileno=self.fd)
        try:
            return line.send(data, socket.MSG_DONTWAIT)
        finally:
            line.detach()  # it only borrows the descriptor

    def _looking(self, data: bytes) -> int:
        """Write as much as there is room for. Waits only if another process takes that room first."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(self.fd, data[: select.PIPE_BUF])

    def _waiting(self, data: bytes) -> int:
        while True:
            try:
                return os.write(self.fd, data)
            except BlockingIOError:
                poll = select.poll()
                poll.register(self.fd, select.POLLOUT)
                poll.poll()


_sinks: weakref.WeakSet[Sink] = weakref.WeakSet()


def _forked() -> None:
    for sink in list(_sinks):
        sink.forked()


os.register_at_fork(after_in_child=_forked)
