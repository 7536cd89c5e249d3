"""Who hears that there may be work to dispatch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from taskd.domain.errors import TransportUnavailable
from taskd.scheduler.shard import Shard
from taskd.seams import Transport


class DispatchWakeup:
    """What is rung after each commit that makes jobs pending: our own dispatchers, and through Redis those of others.

    Rings that come while one is under way share the next one.
    """

    def __init__(self, transport: Transport, shards: Sequence[Shard]) -> None:
        self._transport = transport
        self._shards = shards
        self._wanted = False
        self._ringing: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        """Ring; never blocks, never raises."""
        elsewhere = False
        for shard in self._shards:
            if shard.term is not None:
                shard.ring()
            else:
                elsewhere = True
        if elsewhere:
            self._wanted = True
            if self._ringing is None or self._ringing.done():
                self._ringing = asyncio.create_task(self._ring())

    def ours(self) -> None:
        """Ring our own dispatchers only."""
        for shard in self._shards:
            shard.ring()

    async def listen(self) -> None:
        """Hear what others ring, until cancelled."""
        await self.hear(self._transport.wakes())

    async def hear(self, wakes: AsyncIterator[None]) -> None:
        """Ring our own dispatchers whenever there is something to hear."""
        async for _ in wakes:
            self.ours()

    async def _ring(self) -> None:
        while self._wanted:
            self._wanted = False
            try:
                await self._transport.wake()
            except TransportUnavailable:
                return  # the leaders' slow polls find the jobs
