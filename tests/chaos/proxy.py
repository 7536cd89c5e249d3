"""A TCP proxy that a test can spoil: latency, black holes one way or both, cuts, resets, a thin line.

It sees streams, not packets. What TCP would send again after a black hole is held here and delivered when the hole is healed;
no byte in the middle of a stream is ever missing. A connection that is made during a hole is accepted all the same, because the
SYN is answered by our own kernel; it then stays silent, and its target hears of it only after the hole, if the caller is still
there. So a client's time-out for connecting does not run out here, its time-out for an answer does.

All proxies of a process share one event loop in one thread. Methods are for other threads; what they ask for has happened when
they return.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

import uvloop

from taskd.dev.servers.ports import LOOPBACK, free_port
from tests.chaos.relay import Connection, Line, Rule

T = TypeVar("T")

#: Seconds that a method may take: the loop does nothing that takes long.
DEADLINE = 10.0


class Proxy:
    """A proxy to a port of this machine; `.port` is its own, for its whole life. "Up" is from the client to the target."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._line = Line(target)
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        # Bound and not listening: nobody else gets the port while it is cut.
        self._reservation = _bound(self.port)
        _call(self._listen())

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._line.connections)

    @property
    def held(self) -> int:
        """How many bytes were taken and not passed on yet, over all connections."""
        return sum(c.up.size + c.down.size for c in list(self._line.connections))

    def delay(self, low: float, high: float, *, up: bool = True, down: bool = True) -> None:
        """Hold each piece for a random time between so many seconds; the order stays."""
        self._set(self._line.up, low=low if up else 0.0, high=high if up else 0.0)
        self._set(self._line.down, low=low if down else 0.0, high=high if down else 0.0)

    def slow(self, bytes_per_second: float, *, up: bool = True, down: bool = True) -> None:
        """Pass on so many bytes a second in each direction, all connections together."""
        self._set(self._line.up, rate=bytes_per_second if up else 0.0)
        self._set(self._line.down, rate=bytes_per_second if down else 0.0)

    def hole(self, up: bool = True, down: bool = False) -> None:
        """Deliver nothing in these directions, and deliver in the other; connections stay open."""
        self._set(self._line.up, hole=up)
        self._set(self._line.down, hole=down)

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        _call(self._cut())

    def reset(self) -> None:
        """Reset every connection; new ones are welcome."""
        _call(self._reset())

    def retarget(self, port: int) -> None:
        """Lead new connections to another port; those there are stay as they are."""
        self._line.target = port

    def heal(self) -> None:
        """Undo everything but `retarget`: what was held is delivered at once, and new connections are welcome."""
        for rule in (self._line.up, self._line.down):
            self._set(rule, hole=False, low=0.0, high=0.0, rate=0.0)
        _call(self._listen())

    def close(self) -> None:
        """Reset every connection and give up the port."""
        self.cut()
        self._reservation.close()

    def _set(self, rule: Rule, **values: float) -> None:
        _call(self._apply(rule, values))

    async def _apply(self, rule: Rule, values: dict[str, float]) -> None:
        for name, value in values.items():
            setattr(rule, name, value)
        for connection in self._line.connections:
            connection.up.changed.set()
            connection.down.changed.set()

    async def _listen(self) -> None:
        if self._server is None:
            self._listener = _bound(self.port)
            self._listener.listen(socket.SOMAXCONN)
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: Connection(self._line).near, sock=self._listener)

    async def _cut(self) -> None:
        if self._server is not None and self._listener is not None:
            self._server.close()
            with suppress(OSError):  # closed already; or it is now, before a caller can come in
                self._listener.shutdown(socket.SHUT_RDWR)
            self._server = self._listener = None
        await self._reset()

    async def _reset(self) -> None:
        await asyncio.gather(*(connection.reset() for connection in list(self._line.connections)))


def _bound(port: int) -> socket.socket:
    """A socket with this port. Two of ours may have it, and nobody else's: only one of them listens."""
    found = socket.socket()
    found.setblocking(False)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    found.bind((LOOPBACK, port))
    return found


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = uvloop.new_event_loop()
    threading.Thread(target=loop.run_forever, name="proxies", daemon=True).start()
    return loop


def _call(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, done in the proxies' loop."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result(DEADLINE)
