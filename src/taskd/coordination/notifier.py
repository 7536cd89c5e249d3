"""A bell that wakes everybody who waits for it at that moment, and nobody later."""

from __future__ import annotations

import asyncio

from taskd.runtime.waiting import wait_for


class Notifier:
    """Who looks first and then waits, without awaiting in between, misses no ring."""

    def __init__(self) -> None:
        self._ring = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait."""
        rung, self._ring = self._ring, asyncio.Event()
        rung.set()

    async def wait(self, seconds: float | None = None) -> None:
        """Return at the next ring, or after `seconds`."""
        await wait_for(self._ring, seconds)
