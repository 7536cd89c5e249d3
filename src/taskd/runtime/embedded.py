"""uvicorn, made fit to live inside another program: no signals, no logs of its own, and no endless heads."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: An ASGI application: scope, receive, send.
Application = Callable[[Any, Any, Any], Awaitable[None]]

#: Seconds an idle connection stays open: longer than the 60 s after which most load balancers close theirs.
KEEP_ALIVE = 75
BACKLOG = 2048
#: Bytes of request line and headers. More than the largest single read, which may have a whole small request in it.
HEAD_LIMIT = 512 * 1024
#: Seconds in which a head must have arrived, from its first byte or the connection's beginning on.
HEAD_DEADLINE = 30.0
#: Seconds in which a body must have: longer than the application waits for one, which can then say so; but not every
#: request's body is asked for.
BODY_DEADLINE = 45.0

_NO_HTTP_BODY = b'{"title":"Bad Request","status":400,"detail":"this is no HTTP request that can be understood"}'
_NO_HTTP = b"\r\n".join(
    (
        b"HTTP/1.1 400 Bad Request",
        b"content-type: application/problem+json",
        b"content-length: %d" % len(_NO_HTTP_BODY),
        b"connection: close",
        b"",
        _NO_HTTP_BODY,
    )
)


class Server(uvicorn.Server):
    """A server that leaves the signals alone and tells when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: signals belong to the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept, then say so."""
        await super().startup(sockets)
        self.ready.set()


class Protocol(HttpToolsProtocol):
    """HTTP with a limit on heads; what is no HTTP gets a problem document, like everything else."""

    _head: int | None = 0  # bytes of the head so far; None while a body is read
    _timer: asyncio.TimerHandle | None = None  # runs while a request is incomplete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connected, and should say what they want."""
        super().connection_made(transport)
        self._expect(HEAD_DEADLINE)

    def connection_lost(self, exc: Exception | None) -> None:
        """They went away."""
        self._came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, unless this head never ends."""
        if self._head is not None:
            self._head += len(data)
            if self._head > HEAD_LIMIT:
                self.send_400_response("")
                return
        super().data_received(data)
        if self._head != 0 and self._timer is None:  # most requests come whole and need no timer
            self._expect(BODY_DEADLINE if self._head is None else HEAD_DEADLINE)

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._head = None
        if self._timer is not None:
            self._came()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next head begins."""
        self._head = 0
        if self._timer is not None:
            self._came()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer and hang up."""
        self.transport.write(_NO_HTTP)
        self.transport.close()

    def _expect(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _came(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def embedded(app: Application, grace: float, tls: ssl.SSLContext | None = None) -> Server:
    """A server for `app` that gives open requests `grace` seconds (rounded up) when it stops."""
    return Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=math.ceil(grace),
            backlog=BACKLOG,
            ssl_context_factory=(lambda *_: tls) if tls is not None else None,
        )
    )
