"""uvicorn embedded in another program: without signals and logs of its own, with limits on everything that a client sends."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from taskd.runtime import heads
from taskd.runtime.heads import HeadRefused
from taskd.runtime.listener import Listener
from taskd.runtime.stall import Stall

#: An ASGI application: scope, receive, send.
Application = Callable[[Any, Any, Any], Awaitable[None]]

#: Seconds an idle connection stays open: longer than the 60 s after which most load balancers close theirs.
KEEP_ALIVE = 75
BACKLOG = 2048
#: Bytes of a request that are no body: request line, headers, chunk framing, trailers, and bytes between two requests.
#: Each PAID_BY bytes of body pay for one more, so that a long body may come in many chunks, but not in crumbs.
OVERHEAD_LIMIT = 64 * 1024
PAID_BY = 4
TOO_MUCH = f"more than {OVERHEAD_LIMIT} bytes of this request are request line, headers, chunk framing or trailers"
#: Bytes that are parsed at once, and requests of one connection that may wait: a slice of the smallest ones is 455.
SLICE, PIPELINE = 8 * 1024, 16
#: Bytes of body that are read and thrown away: after the answer, so that a client that sends everything before it listens can
#: hear it; and of methods that have none.
UNREAD_LIMIT, BODILESS_LIMIT = 64 * 1024 * 1024, 1024 * 1024
BODILESS = ("GET", "HEAD")
#: Seconds in which a head must arrive, from its first byte or the begin of the connection.
HEAD_DEADLINE = 30.0
#: Seconds in which a body must arrive. The application waits for less time, and then answers with the reason; this limit is for
#: bodies that it does not read.
BODY_DEADLINE = 45.0
#: The scope of a finished request.
NOTHING: Any = {}


class EmbeddedServer(uvicorn.Server):
    """A server that leaves signals to the process, accepts by itself, and sets an event when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.stalls: dict[Stall, None] = {}

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals: they belong to the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections, then report it."""
        await super().startup([])  # with no server of the event loop's: see Listener
        connections = self.server_state.connections
        listeners = [Listener(one, self._protocol, connections, self.config.ssl) for one in sockets or ()]
        self.servers = cast(list[asyncio.Server], listeners)  # uvicorn calls close and wait_closed
        self.ready.set()

    def _protocol(self) -> Protocol:
        return Protocol(self.config, self, self.lifespan.state)


class Flow(FlowControl):
    """uvicorn's flow control, which resumes reading on many occasions, with a hold that none of them overrides."""

    held = False

    def resume_reading(self) -> None:
        """Resume, unless reading is held."""
        if not self.held:
            super().resume_reading()


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 with every byte counted. Malformed requests get a problem document, like all other refusals.

    1. Data is parsed in slices, and no further while answers wait: neither floods of requests nor clients that do not read
       hold memory.
    2. What is no body (heads, chunk framing, trailers) is counted against OVERHEAD_LIMIT. Headers have a limit of their own.
       Trailers are not kept.
    3. Requests to upgrade are handled as if the header was not there, as RFC 9110 allows.
    4. A request that breaks a rule gets a 400, after the answers to those before it, and the connection ends.
    """

    flow: Flow
    _overhead = 0  # bytes since the last request that were no body, less what bodies paid for
    _begun = False  # a request has begun and not ended
    _in_body = False  # its head has
    _upgrade = False  # the head that was parsed asks for an upgrade: it is parsed again, without
    _unread = 0  # bytes of its body that nothing asked for
    _held: bytes | None = None  # what came while answers wait
    _refusal: bytes | None = None  # the last answer of this connection
    _deferred = False  # an answer is complete, but not taken yet
    _timer: asyncio.TimerHandle | None = None  # runs while a request is incomplete

    def __init__(self, config: uvicorn.Config, server: EmbeddedServer, app_state: dict[str, Any]) -> None:
        super().__init__(config, server.server_state, app_state)
        self._once: set[bytes] = set()
        self._stalls = server.stalls

    # ------------------------------------------------------------ the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        self._stall = Stall(transport, self._stalls)
        self._expect(HEAD_DEADLINE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop all state of the connection."""
        self._came()
        self._stall.end()
        self._held = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data, or keep it while answers wait; reading is paused then."""
        self._unset_keepalive_if_required()
        if self._held is not None:
            self._held += data
        else:
            self._take(data)

    # ------------------------------------------------------------ reading

    def _take(self, data: bytes) -> None:
        whole = data if len(data) <= SLICE else memoryview(data)
        for start in range(0, len(data), SLICE):
            if self._busy():
                self._hold(data[start:])
                return
            if not self._parse(whole[start : start + SLICE]):
                return
        if (self._begun or self._overhead) and self._timer is None:  # most requests come whole and need no timer
            self._expect(BODY_DEADLINE if self._in_body else HEAD_DEADLINE)

    def _busy(self) -> bool:
        return self.flow.write_paused or len(self.pipeline) >= PIPELINE

    def _hold(self, data: bytes) -> None:
        """Keep `data`, and pause reading."""
        self._held = data
        self.flow.pause_reading()
        self.flow.held = True
        self._came()  # the client is not slow

    def _release(self) -> None:
        """Parse the held data, if nothing prevents it."""
        if self._held is None or self._refusal is not None or self._busy() or self.transport.is_closing():
            return
        data, self._held = self._held, None
        self.flow.held = False
        self.flow.resume_reading()
        self._take(data)

    def _parse(self, data: bytes | memoryview) -> bool:
        """Parse one slice. Return True to go on."""
        self._overhead += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(
                str(cause) if isinstance(cause, HeadRefused) else "this is no HTTP request that can be understood"
            )
            return False
        if self._overhead > OVERHEAD_LIMIT:
            self._refuse(TOO_MUCH)
            return False
        self._overhead = max(self._overhead, 0)
        return True

    def _feed(self, data: bytes | memoryview) -> None:
        """Parse. A head that asks for an upgrade is parsed a second time without that, then the data behind it."""
        while (end := self._end_of_upgrade(data)) is not None:
            data = memoryview(data)[end:]
            head = heads.without_upgrade(
                self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers
            )
            self._upgrade = False
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
            self.parser.feed_data(head)

    def _end_of_upgrade(self, data: bytes | memoryview) -> int | None:
        """Parse up to the end of a head that asks for an upgrade. Return that position."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            end: int = upgrade.args[0]
            return end
        return None

    # ------------------------------------------------------------ what the parser finds

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._begun = True
        self._unread = 0
        self._once.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. Trailers are dropped, since nothing uses them. Raises HeadRefused."""
        if self._in_body:
            return
        name = name.lower()
        if name in heads.ONCE:
            if name in self._once:
                raise HeadRefused(f"the header {name.decode()} is given twice")
            self._once.add(name)
            if name == b"transfer-encoding":
                heads.check_transfer_encoding(value, self.parser.get_http_version())
            elif name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
        if len(self.headers) >= heads.MOST_HEADERS:
            raise HeadRefused(f"a request may have {heads.MOST_HEADERS} headers")
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the request, unless its head has to be parsed again. Raises HeadRefused."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise HeadRefused("CONNECT is for proxies, and this is none")
            self._upgrade = True
            return
        if self.parser.get_http_version() not in heads.VERSIONS:
            raise HeadRefused("only HTTP/1.1 and HTTP/1.0 are spoken here")
        # The count may include a part of the body; the size is exact.
        if self._overhead > OVERHEAD_LIMIT and heads.size(self.url, self.headers) > OVERHEAD_LIMIT:
            raise HeadRefused(TOO_MUCH)
        heads.check_target(self.url, self.headers)
        super().on_headers_complete()
        self._in_body = True
        if self._timer is not None:
            self._came()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body. Raises HeadRefused for an endless body that the application does not read."""
        self._overhead -= len(body) + len(body) // PAID_BY
        answered = self.cycle.response_complete
        if answered or self.scope["method"] in BODILESS:
            self._unread += len(body)
            if self._unread > (UNREAD_LIMIT if answered and self.scope["method"] not in BODILESS else BODILESS_LIMIT):
                raise HeadRefused("a body that is of no use here does not end")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request: it is complete."""
        if self._upgrade:
            return
        self._overhead = 0
        self._begun = self._in_body = False
        if self._timer is not None:
            self._came()
        super().on_message_complete()
        if self.cycle.response_complete:
            self._forget()

    # ------------------------------------------------------------ answering

    def on_response_complete(self) -> None:
        """Begin the next request once the client has taken this answer."""
        if self.flow.write_paused and not self.transport.is_closing():
            self._deferred = True
            return
        last = not self.pipeline
        super().on_response_complete()
        if last and self._refusal is not None:
            self._hang_up(self._refusal)
            return
        if last and not self._begun:
            self._forget()
        self._release()

    def _forget(self) -> None:
        """Drop the state of the last request: its connection may stay open for long."""
        self.headers = []
        self.scope = self.cycle.scope = NOTHING
        self.cycle.body = bytearray()

    def send_400_response(self, msg: str) -> None:
        """Refuse the request that is being read."""
        self._refuse(msg)

    def _refuse(self, reason: str) -> None:
        """Stop reading, answer 400 in its turn, and close the connection."""
        self._hold(b"")
        self._refusal = heads.bad_request(reason)
        if self._in_body:
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()  # it has not begun; those before it are answered first
                return
            if self.cycle.response_started:
                self.transport.close()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        elif self.cycle is not None and not self.cycle.response_complete:
            return
        self._hang_up(self._refusal)

    def _hang_up(self, last: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(last)
            self.transport.close()

    # ------------------------------------------------------------ clients that do not read

    def pause_writing(self) -> None:
        """Pause writing: the client takes an answer more slowly than it is made."""
        super().pause_writing()
        self._stall.begin()

    def resume_writing(self) -> None:
        """Resume writing: the client has taken the answer."""
        self._stall.end()
        super().resume_writing()
        if self._deferred:
            self._deferred = False
            self.on_response_complete()
        else:
            self._release()

    # ------------------------------------------------------------ time

    def _expect(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _came(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def embedded(app: Application, grace: float, tls: ssl.SSLContext | None = None) -> EmbeddedServer:
    """Return a server for `app` that gives open requests `grace` seconds (rounded up) when it stops."""
    return EmbeddedServer(
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
