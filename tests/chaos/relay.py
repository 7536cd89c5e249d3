"""What happens to one connection through a proxy. All of this runs in the proxies' event loop."""

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

#: The most bytes held in one direction of one connection before its sender is made to wait, and at which it may go on.
MOST, ENOUGH = 1024 * 1024, 512 * 1024
#: A thin line passes on what it may in this many seconds, then waits.
TICK = 0.05


class Rule:
    """What happens in one direction of a proxy."""

    hole = False
    low = 0.0
    high = 0.0
    rate = 0.0
    #: When a thin line is free again, by the loop's clock.
    free_at = 0.0


class Flow:
    """One direction of one connection: what was read at one end and not yet written at the other."""

    source: End
    sink: End

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._loop = asyncio.get_running_loop()
        #: When it is due, and what it is: bytes, the end (b"") or a reset (None).
        self._held: deque[tuple[float, bytes | None]] = deque()
        self.changed = asyncio.Event()
        #: Set when the end was passed on. A reset may still follow.
        self.over = asyncio.Event()
        self.size = 0

    def put(self, data: bytes | None) -> None:
        """Take what was read; make the sender wait if too much is held."""
        due = self._loop.time() + random.uniform(self._rule.low, self._rule.high)
        self._held.append((due, data))
        self.size += len(data or b"")
        self.changed.set()
        if self.size > MOST:
            self.source.hush()

    async def run(self) -> None:
        """Pass on what comes, as the rule allows, until cancelled."""
        while True:
            pause = self._pause()
            if pause is not None and pause <= 0:
                self._pass_on()
                continue
            self.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.changed.wait()

    def _pause(self) -> float | None:
        """Seconds until something may be passed on; None: not before something changes."""
        if not self._held or self._rule.hole or not self.sink.writable:
            return None
        due = self._held[0][0] if self._rule.high else 0.0
        return max(due, self._rule.free_at if self._rule.rate else 0.0) - self._loop.time()

    def _pass_on(self) -> None:
        due, data = self._held.popleft()
        if data:
            piece = self._piece(due, data)
            self.size -= len(piece)
            self.sink.write(piece)
            if self.size <= ENOUGH:
                self.source.listen()
            return
        self.sink.end() if data is not None else self.sink.reset()
        self.over.set()

    def _piece(self, due: float, data: bytes) -> bytes:
        """As much of `data` as a thin line takes at once; the rest waits for its turn."""
        if not self._rule.rate:
            return data
        size = max(1, int(self._rule.rate * TICK))
        piece, rest = data[:size], data[size:]
        if rest:
            self._held.appendleft((due, rest))
        self._rule.free_at = max(self._rule.free_at, self._loop.time()) + len(piece) / self._rule.rate
        return piece


class End(asyncio.Protocol):
    """One end of a connection: what comes in goes to `flow`, what goes out comes from `back`."""

    def __init__(self, flow: Flow, back: Flow, made: Callable[[], None] = lambda: None) -> None:
        self._flow = flow
        self._back = back
        self._made = made
        self._transport: asyncio.Transport | None = None
        self._full = False
        self.ended = False
        #: Set while there is no connection.
        self.gone = asyncio.Event()
        self.gone.set()

    @property
    def writable(self) -> bool:
        """False while its peer does not read. What goes to an end that is gone is dropped."""
        return not self._full

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.gone.clear()
        self._made()

    def data_received(self, data: bytes) -> None:
        self._flow.put(bytes(data))

    def eof_received(self) -> bool:
        self.ended = True
        self._flow.put(b"")
        return True  # the other direction may have more to say

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None or not self.ended:
            self.ended = True
            self._flow.put(b"" if error is None else None)
        self._transport = None
        self.resume_writing()
        self.gone.set()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._back.changed.set()

    def write(self, data: bytes) -> None:
        """Send it."""
        if self._transport is not None:
            self._transport.write(data)

    def end(self) -> None:
        """Say that nothing more comes."""
        if self._transport is not None:
            self._transport.write_eof()

    def hush(self) -> None:
        """Read no more for now."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def listen(self) -> None:
        """Read on."""
        if self._transport is not None and not self.ended and not self._transport.is_reading():
            self._transport.resume_reading()

    def close(self) -> None:
        """End both directions when what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Throw everything away; the peer gets a RST."""
        if self._transport is not None:
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()


class Line:
    """What all connections of one proxy share."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.up, self.down = Rule(), Rule()
        self.connections: set[Connection] = set()

    @property
    def silent(self) -> bool:
        """True while a handshake would not come through."""
        return self.up.hole or self.down.hole


class Connection:
    """A client's connection (`near`) and the one to the target that belongs to it (`far`)."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.up, self.down = Flow(line.up), Flow(line.down)
        self.near, self.far = End(self.up, self.down, self._begin), End(self.down, self.up)
        self.up.source, self.up.sink = self.near, self.far
        self.down.source, self.down.sink = self.far, self.near

    async def reset(self) -> None:
        """Reset both ends; return when that is done."""
        self._life.cancel()
        for end in (self.near, self.far):
            end.reset()
        await asyncio.wait({self._life})
        for end in (self.near, self.far):
            await end.gone.wait()

    def _begin(self) -> None:
        self._line.connections.add(self)
        self._life = asyncio.create_task(self._live())

    async def _live(self) -> None:
        flows: list[asyncio.Task[None]] = []
        try:
            if await self._connect():
                flows = [asyncio.create_task(self.up.run()), asyncio.create_task(self.down.run())]
                await self.up.over.wait()
                await self.down.over.wait()
            for end in (self.near, self.far):
                end.close()
                await end.gone.wait()
        finally:
            for flow in flows:
                flow.cancel()
            self._line.connections.discard(self)

    async def _connect(self) -> bool:
        """Connect to the target; False if the client gave up before that, or the target refuses, which resets the client."""
        while self._line.silent:
            if self.near.ended:
                return False
            self.up.changed.clear()
            await self.up.changed.wait()
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.far, LOOPBACK, self._line.target)
        except OSError:
            self.near.reset()
            return False
        return True
