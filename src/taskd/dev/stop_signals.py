"""Waits that signals interrupt: the end of a child wakes the supervisor, Ctrl-C and SIGTERM stop it."""

from __future__ import annotations

import select
import signal
import socket
import time
from types import FrameType
from typing import Any

#: Seconds within which a second signal counts as the same Ctrl-C: it may come from the terminal and from the parent.
ECHO = 0.5
STOP = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class StopAsked(Exception):
    """Raised when the user or the system ends the cluster."""


class StopSignals:
    """Signal handlers, installed with `with` in the main thread; the earlier handlers are restored at the end.

    A signal only ends `pause`, so a supervisor is never interrupted between making a process and recording it.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._last_stop = -ECHO

    def __enter__(self) -> StopSignals:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in (*STOP, signal.SIGCHLD):
            self._before[number] = signal.signal(number, _wake_only)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._receiver.close()
        self._sender.close()

    def pause(self, seconds: float) -> None:
        """Wait `seconds`, or less if a signal comes. Raises StopAsked."""
        if not select.select([self._receiver], [], [], seconds)[0] or not STOP.intersection(self._receiver.recv(4096)):
            return
        if time.monotonic() - self._last_stop > ECHO:
            self._last_stop = time.monotonic()
            raise StopAsked


def _wake_only(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wake-up fd has the number already."""
