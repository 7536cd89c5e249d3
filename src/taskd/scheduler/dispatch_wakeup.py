"""Wakes dispatchers when there may be work: those of this process at once, those of other schedulers through Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from taskd.domain.errors import TransportUnavailable
from taskd.scheduler.shard import Shard
from taskd.seams import Transport


class DispatchWakeup:
    """Called after each commit that makes jobs pending. Wakes this process's dispatchers, and other schedulers' by a message.

    Calls that come while a message is under way share the next one.
    """

    def __init__(self, transport: Transport, shards: Sequence[Shard]) -> None:
        self._transport = transport
        self._shards = shards
        self._wanted = False
        self._sending: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        """Wake the dispatchers; never blocks, never raises."""
        elsewhere = False
        for shard in self._shards:
            if shard.term is not None:
                shard.wake()
            else:
                elsewhere = True
        if elsewhere:
            self._wanted = True
            if self._sending is None or self._sending.done():
                self._sending = asyncio.create_task(self._send())

    def wake_local(self) -> None:
        """Wake this process's dispatchers only."""
        for shard in self._shards:
            shard.wake()

    async def listen(self) -> None:
        """Wake this process's dispatchers at each message of another process, until cancelled."""
        await self.relay(self._transport.wakes())

    async def relay(self, wakes: AsyncIterator[None]) -> None:
        """Wake this process's dispatchers at each item of `wakes`."""
        async for _ in wakes:
            self.wake_local()

    async def _send(self) -> None:
        while self._wanted:
            self._wanted = False
            try:
                await self._transport.wake()
            except TransportUnavailable:
                return  # the leaders' slow polls find the jobs
