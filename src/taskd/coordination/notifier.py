"""A bell that wakes everybody who waits for it at that moment, and nobody later."""

from __future__ import annotations

import asyncio


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
        ring = self._ring
        try:
            async with asyncio.timeout(seconds):
                await ring.wait()
        except TimeoutError:
            return
