"""Long work on the event loop, cut into short pieces."""

from __future__ import annotations

import asyncio
import time

#: Seconds of work after which other requests get a turn.
SLICE = 0.005


class Turns:
    """Counts the time of one piece of work; `turn` lets the event loop go on once that was long enough."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + SLICE

    async def turn(self) -> None:
        """Return at once, or after other requests had their turn."""
        if time.perf_counter() >= self._end:
            await asyncio.sleep(0)
            self._end = time.perf_counter() + SLICE
