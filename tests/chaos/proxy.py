"""A TCP proxy with faults: latency, black holes in one direction or both, cuts, resets, limited bandwidth.

It sees streams, not packets. The proxy holds the bytes that TCP would send again after a black hole, and delivers
them when the hole is healed; no byte in the middle of a stream is ever missing. A connection made during a hole is
accepted all the same, because the kernel answers the SYN. It then stays silent, and the target sees it only after
the hole, if the client is still connected. So a client's connect time-out does not fire here, its response time-out
does.

All proxies of a process share one event loop in one thread. Methods are for other threads and return when the change
is in effect.
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
from tests.chaos.relay import Conditions, ProxiedConnection, ProxyState

T = TypeVar("T")

#: Seconds that a method may take: nothing in the loop takes long.
DEADLINE = 10.0


class Proxy:
    """Proxy to a port of this machine; `.port` is its own and never changes. "Up" is from the client to the target."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._state = ProxyState(target)
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        # Bound and not listening: no other process gets the port during a cut.
        self._reservation = _bound(self.port)
        _call(self._listen())

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._state.connections)

    @property
    def held(self) -> int:
        """Bytes of all connections that were read and not yet delivered."""
        return sum(c.up.size + c.down.size for c in list(self._state.connections))

    def delay(self, low: float, high: float, *, up: bool = True, down: bool = True) -> None:
        """Hold each piece for a random time between `low` and `high` seconds; the order stays."""
        self._set(self._state.up, low=low if up else 0.0, high=high if up else 0.0)
        self._set(self._state.down, low=low if down else 0.0, high=high if down else 0.0)

    def slow(self, bytes_per_second: float, *, up: bool = True, down: bool = True) -> None:
        """Limit each direction to so many bytes a second, for all connections together."""
        self._set(self._state.up, rate=bytes_per_second if up else 0.0)
        self._set(self._state.down, rate=bytes_per_second if down else 0.0)

    def hole(self, up: bool = True, down: bool = False) -> None:
        """Deliver nothing in the directions that are True; connections stay open."""
        self._set(self._state.up, hole=up)
        self._set(self._state.down, hole=down)

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        _call(self._cut())

    def reset(self) -> None:
        """Reset every connection; new ones are accepted."""
        _call(self._reset())

    def retarget(self, port: int) -> None:
        """Connect new clients to another port; open connections stay unchanged."""
        self._state.target = port

    def heal(self) -> None:
        """Undo everything but `retarget`: deliver held bytes at once, and accept new connections."""
        for conditions in (self._state.up, self._state.down):
            self._set(conditions, hole=False, low=0.0, high=0.0, rate=0.0)
        _call(self._listen())

    def close(self) -> None:
        """Reset every connection and release the port."""
        self.cut()
        self._reservation.close()

    def _set(self, conditions: Conditions, **values: float) -> None:
        _call(self._apply(conditions, values))

    async def _apply(self, conditions: Conditions, values: dict[str, float]) -> None:
        for name, value in values.items():
            setattr(conditions, name, value)
        for connection in self._state.connections:
            connection.up.changed.set()
            connection.down.changed.set()

    async def _listen(self) -> None:
        if self._server is None:
            self._listener = _bound(self.port)
            self._listener.listen(socket.SOMAXCONN)
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: ProxiedConnection(self._state).near, sock=self._listener)

    async def _cut(self) -> None:
        if self._server is not None and self._listener is not None:
            self._server.close()
            with suppress(OSError):  # it is closed already, or this closes it before a client can connect
                self._listener.shutdown(socket.SHUT_RDWR)
            self._server = self._listener = None
        await self._reset()

    async def _reset(self) -> None:
        await asyncio.gather(*(connection.reset() for connection in list(self._state.connections)))


def _bound(port: int) -> socket.socket:
    """Return a socket bound to this port. Two sockets of this process share it, and only one of them listens."""
    bound = socket.socket()
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((LOOPBACK, port))
    return bound


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = uvloop.new_event_loop()
    threading.Thread(target=loop.run_forever, name="proxies", daemon=True).start()
    return loop


def _call(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in the proxies' loop and return its result."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result(DEADLINE)
