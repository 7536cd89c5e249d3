"""Waiting that a signal ends: a request to stop, or a child that ended."""

from __future__ import annotations

import select
import signal
import socket
from types import FrameType, TracebackType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Somebody asked this process to stop: Ctrl-C, SIGTERM, or the terminal was closed."""


class Attention:
    """While entered, signals are noted instead of ending the process; `wait` tells of them. For the main thread."""

    def __enter__(self) -> Attention:
        self._requests = 0
        self._seen = 0
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before: dict[int, Any] = {signal.SIGCHLD: signal.signal(signal.SIGCHLD, _note_nothing)}
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and shells in the background ignore some
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._reader.close()
        self._writer.close()

    def wait(self, seconds: float) -> None:
        """Wait `seconds`, or less if a child ends. Raises Stopped once for each request to stop."""
        self._check()
        if select.select([self._reader], [], [], seconds)[0]:
            self._reader.recv(4096)
        self._check()

    def _check(self) -> None:
        if self._requests > self._seen:
            self._seen = self._requests
            raise Stopped

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._requests += 1


def _note_nothing(number: int, frame: FrameType | None) -> None:
    """SIGCHLD: being woken is all there is to it."""
