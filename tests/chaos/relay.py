"""One connection through a proxy. All code here runs in the proxies' event loop."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from taskd.dev.servers.ports import LOOPBACK

#: Bytes held in one direction of one connection above which its sender must wait, and at which it may continue.
MOST, ENOUGH = 1024 * 1024, 512 * 1024
#: With limited bandwidth, a direction delivers the bytes of this many seconds at once and then waits.
TICK = 0.05


class Conditions:
    """Faults in one direction of a proxy: a black hole, the range of the latency, bytes a second."""

    hole = False
    low = 0.0
    high = 0.0
    rate = 0.0
    #: Time of the loop's clock at which limited bandwidth is free again.
    free_at = 0.0


class Direction:
    """One direction of one connection: holds the bytes that were read at one end and not yet written at the other."""

    source: Endpoint
    sink: Endpoint

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self._loop = asyncio.get_running_loop()
        #: Due time, and bytes, the end of the stream (b"") or a reset (None).
        self._held: deque[tuple[float, bytes | None]] = deque()
        self.changed = asyncio.Event()
        #: Set when the end of the stream was delivered. A reset may still follow.
        self.ended = asyncio.Event()
        self.size = 0

    def put(self, data: bytes | None) -> None:
        """Hold `data`; make the sender wait if too much is held."""
        due = self._loop.time() + random.uniform(self._conditions.low, self._conditions.high)
        self._held.append((due, data))
        self.size += len(data or b"")
        self.changed.set()
        if self.size > MOST:
            self.source.stop_reading()

    async def run(self) -> None:
        """Deliver held data as the conditions allow, until cancelled."""
        while True:
            pause = self._pause()
            if pause is not None and pause <= 0:
                self._deliver()
                continue
            self.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.changed.wait()

    def _pause(self) -> float | None:
        """Return seconds until the next delivery; None: not before `changed`."""
        if not self._held or self._conditions.hole or not self.sink.writable:
            return None
        due = self._held[0][0] if self._conditions.high else 0.0
        return max(due, self._conditions.free_at if self._conditions.rate else 0.0) - self._loop.time()

    def _deliver(self) -> None:
        due, data = self._held.popleft()
        if data:
            piece = self._piece(due, data)
            self.size -= len(piece)
            self.sink.write(piece)
            if self.size <= ENOUGH:
                self.source.continue_reading()
            return
        self.sink.end() if data is not None else self.sink.reset()
        self.ended.set()

    def _piece(self, due: float, data: bytes) -> bytes:
        """Return as much of `data` as the bandwidth allows at once, and hold the rest."""
        if not self._conditions.rate:
            return data
        size = max(1, int(self._conditions.rate * TICK))
        piece, rest = data[:size], data[size:]
        if rest:
            self._held.appendleft((due, rest))
        self._conditions.free_at = max(self._conditions.free_at, self._loop.time()) + len(piece) / self._conditions.rate
        return piece


class Endpoint(asyncio.Protocol):
    """One end of a connection: received data go to `direction`, sent data come from `opposite`."""

    def __init__(self, direction: Direction, opposite: Direction, made: Callable[[], None] = lambda: None) -> None:
        self._direction = direction
        self._opposite = opposite
        self._made = made
        self._transport: asyncio.Transport | None = None
        self._full = False
        self.ended = False
        #: Set while there is no connection.
        self.closed = asyncio.Event()
        self.closed.set()

    @property
    def writable(self) -> bool:
        """False while the peer does not read. Data for a closed endpoint are dropped."""
        return not self._full

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.closed.clear()
        self._made()

    def data_received(self, data: bytes) -> None:
        self._direction.put(bytes(data))

    def eof_received(self) -> bool:
        self.ended = True
        self._direction.put(b"")
        return True  # the other direction may still have data

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None or not self.ended:
            self.ended = True
            self._direction.put(b"" if error is None else None)
        self._transport = None
        self.resume_writing()
        self.closed.set()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._opposite.changed.set()

    def write(self, data: bytes) -> None:
        """Send `data`."""
        if self._transport is not None:
            self._transport.write(data)

    def end(self) -> None:
        """Send the end of the stream."""
        if self._transport is not None:
            self._transport.write_eof()

    def stop_reading(self) -> None:
        """Stop reading until `continue_reading`."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def continue_reading(self) -> None:
        """Read again, unless the stream has ended."""
        if self._transport is not None and not self.ended and not self._transport.is_reading():
            self._transport.resume_reading()

    def close(self) -> None:
        """Close both directions when all written data are sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Drop all data and send the peer a RST."""
        if self._transport is not None:
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()


class ProxyState:
    """State that all connections of one proxy share."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.up, self.down = Conditions(), Conditions()
        self.connections: set[ProxiedConnection] = set()

    @property
    def silent(self) -> bool:
        """True while a handshake would not get through."""
        return self.up.hole or self.down.hole


class ProxiedConnection:
    """A client's connection (`near`) and the matching one to the target (`far`)."""

    def __init__(self, state: ProxyState) -> None:
        self._state = state
        self.up, self.down = Direction(state.up), Direction(state.down)
        self.near, self.far = Endpoint(self.up, self.down, self._begin), Endpoint(self.down, self.up)
        self.up.source, self.up.sink = self.near, self.far
        self.down.source, self.down.sink = self.far, self.near

    async def reset(self) -> None:
        """Reset both ends; return when both are closed."""
        self._life.cancel()
        for end in (self.near, self.far):
            end.reset()
        await asyncio.wait({self._life})
        for end in (self.near, self.far):
            await end.closed.wait()

    def _begin(self) -> None:
        self._state.connections.add(self)
        self._life = asyncio.create_task(self._live())

    async def _live(self) -> None:
        flows: list[asyncio.Task[None]] = []
        try:
            if await self._connect():
                flows = [asyncio.create_task(self.up.run()), asyncio.create_task(self.down.run())]
                await self.up.ended.wait()
                await self.down.ended.wait()
            for end in (self.near, self.far):
                end.close()
                await end.closed.wait()
        finally:
            for flow in flows:
                flow.cancel()
            self._state.connections.discard(self)

    async def _connect(self) -> bool:
        """Connect to the target; return False if the client has closed, or if the target refuses, which resets the client."""
        while self._state.silent:
            if self.near.ended:
                return False
            self.up.changed.clear()
            await self.up.changed.wait()
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.far, LOOPBACK, self._state.target)
        except OSError:
            self.near.reset()
            return False
        return True
