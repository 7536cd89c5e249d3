"""Notifications to systemd (sd_notify(3)): ready, alive, stopping. Without systemd all of this does nothing.

A watchdog that is fed from the event loop notices a process that hangs, and not only one that died.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping


class Supervisor:
    """The connection of one process to systemd, if there is one. `environ` has NOTIFY_SOCKET and WATCHDOG_USEC then."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # A name in the abstract namespace is written with an @ for its leading NUL.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        own = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        microseconds = environ.get("WATCHDOG_USEC", "")
        #: Seconds between keep-alive notifications: half of systemd's time-out.
        self._every = int(microseconds) / 2e6 if own and microseconds.isdecimal() else 0.0

    def ready(self) -> None:
        """Notify that the process serves."""
        self._say("READY=1")

    def stopping(self) -> None:
        """Notify that the process was asked to stop, and drains."""
        self._say("STOPPING=1")

    async def watch(self) -> None:
        """Send keep-alive notifications until cancelled."""
        if not self._address or not self._every:
            await asyncio.Event().wait()
        while True:
            self._say("WATCHDOG=1")
            await asyncio.sleep(self._every)

    def _say(self, message: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line,
        ):
            line.setblocking(False)
            line.sendto(message.encode(), self._address)
