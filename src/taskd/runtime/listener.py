"""Accepting connections, with a limit, so that running out of file descriptors delays clients and breaks nothing.

The event loops' own servers do worse: libuv accepts what it has no descriptor for and closes it at once, without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
from collections.abc import Callable, Sized

from taskd.runtime import meters
from taskd.runtime.log import logger

#: Descriptors that connections leave to the rest of the process, if the limit is large enough.
RESERVE = 128
#: Connections to accept before other work has its turn.
AT_ONCE = 64
#: Seconds until a listener that had no descriptor tries again, and between two lines about it.
PAUSE, SAY_EVERY = 0.25, 60.0
SCARCE = "new connections must wait: raise the limit on open files (ulimit -n, LimitNOFILE= of a systemd unit)"
#: Seconds in which a TLS handshake must be complete.
HANDSHAKE = 30.0


def room() -> int:
    """Return the number of connections for which the limit on open files (`ulimit -n`) leaves room."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(limit - RESERVE, limit // 2) if limit != resource.RLIM_INFINITY else 1 << 31


class Listener:
    """Accepts on one socket while `connections` has fewer than `room()`; the others wait in the kernel's queue.

    Stands in for an `asyncio.Server` where uvicorn closes one.
    """

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Sized,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._sock = sock
        self._protocol = protocol
        self._connections = connections
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._resuming: asyncio.TimerHandle | None = None
        self._say_after = 0.0
        sock.setblocking(False)
        self._loop.add_reader(sock, self._accept)

    def close(self) -> None:
        """Stop accepting connections."""
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
        for task in self._opening:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait for the handshakes that are under way."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if len(self._connections) + len(self._opening) >= room():
                self._wait(SCARCE, "as many as the limit allows are open")
                return
            try:
                connection, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                scarce = error.errno in (errno.EMFILE, errno.ENFILE)
                self._wait(SCARCE if scarce else "new connections cannot be accepted", str(error))
                return
            task = self._loop.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        """Hand an accepted connection to a protocol, after the handshake where there is TLS."""
        connection.setblocking(False)
        timeout = HANDSHAKE if self._tls is not None else None
        try:
            await self._loop.connect_accepted_socket(
                self._protocol, connection, ssl=self._tls, ssl_handshake_timeout=timeout
            )
        except (OSError, asyncio.CancelledError):  # no TLS, or gone: ssl.SSLError and TimeoutError are OSErrors
            with contextlib.suppress(OSError):
                connection.close()

    def _wait(self, line: str, reason: str) -> None:
        """Leave clients waiting in the kernel's queue for a moment, and log it at a bounded rate."""
        self._loop.remove_reader(self._sock)
        self._resuming = self._loop.call_later(PAUSE, self._resume)
        meters.ACCEPT_PAUSES.inc()
        now = self._loop.time()
        if now >= self._say_after:
            self._say_after = now + SAY_EVERY
            logger().warning(
                line,
                reason=reason,
                limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                connections=len(self._connections),
            )

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._sock, self._accept)
