"""Waiting that signals interrupt: the end of a child wakes the supervisor, Ctrl-C and SIGTERM stop it."""

from __future__ import annotations

import select
import signal
import socket
import time
from types import FrameType
from typing import Any

#: Signals of one Ctrl-C may come twice, from the terminal and from whatever started us.
ECHO = 0.5
STOP = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


class StopAsked(Exception):
    """The user, or the system, wants the cluster to end."""


class StopSignals:
    """Install it with `with` in the main thread; the handlers of before come back at the end.

    Signals only ring: whoever supervises is never interrupted between making a process and writing it down.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._last_stop = -ECHO

    def __enter__(self) -> StopSignals:
        self._heard, self._rung = socket.socketpair()
        self._heard.setblocking(False)
        self._rung.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._rung.fileno(), warn_on_full_buffer=False)
        for number in (*STOP, signal.SIGCHLD):
            self._before[number] = signal.signal(number, _ring_only)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._heard.close()
        self._rung.close()

    def pause(self, seconds: float) -> None:
        """Wait `seconds`, or less if a signal comes. Raises StopAsked."""
        if not select.select([self._heard], [], [], seconds)[0] or not STOP.intersection(self._heard.recv(4096)):
            return
        if time.monotonic() - self._last_stop > ECHO:
            self._last_stop = time.monotonic()
            raise StopAsked


def _ring_only(_number: int, _frame: FrameType | None) -> None:
    """The wake-up fd has the number already."""
