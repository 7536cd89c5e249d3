"""Long work on the event loop, in short slices."""

from __future__ import annotations

import asyncio
import time

#: Seconds of work after which other requests get a turn.
SLICE = 0.005


class TimeSlice:
    """Measures one piece of work, and lets the event loop run once a slice is used up."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + SLICE

    async def pause(self) -> None:
        """Return at once, or after other requests had their turn if the slice is used up."""
        if time.perf_counter() >= self._end:
            await asyncio.sleep(0)
            self._end = time.perf_counter() + SLICE
