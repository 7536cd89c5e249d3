"""The loop that writes to PostgreSQL in batches: for the ends, the notes and the output of attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from taskd.runtime.pace import Pace

B = TypeVar("B")


class BatchWriter(Generic[B]):
    """Writes items that accumulate, one batch at a time. A stream of items is cut into turns of Pace.

    `take` removes and returns the next batch, which is empty (false) if there is none. `write` writes one, and puts
    back itself what it cannot write.
    """

    def __init__(self, take: Callable[[], B], write: Callable[[B], Awaitable[None]]) -> None:
        self._take = take
        self._write = write
        self._waiting = asyncio.Event()

    def wake(self) -> None:
        """Note that there is something to write."""
        self._waiting.set()

    async def run(self) -> None:
        """Write until cancelled."""
        pace = Pace()
        while True:
            await self._waiting.wait()
            await pace.turn()
            self._waiting.clear()
            while batch := self._take():
                await self._write(batch)
