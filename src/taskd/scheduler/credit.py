"""Credit: the number of jobs that may lie in Redis, about what the fleet drains in `credit_seconds` and at least its slots.

All other jobs wait, sorted, in PostgreSQL. So priorities are decided late, a wipe of Redis costs little, and Redis's memory
stays flat.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from taskd.domain.band import BANDS, Band, Credit

#: Seconds over which a queue's drain rate is averaged.
MEMORY = 0.5

Depths = Mapping[tuple[str, Band], int]


class Gauge:
    """The drain rate of one queue in jobs per second. Entries that were added and are gone count as drained."""

    def __init__(self) -> None:
        self._depth = 0
        self._at = time.monotonic()
        self.rate = 0.0

    def announced(self, jobs: int) -> None:
        """Count `jobs` entries as just added."""
        self._depth += jobs

    def measure(self, depth: int) -> None:
        """Update the rate: the queue's streams hold `depth` entries now."""
        now = time.monotonic()
        elapsed = max(1e-3, now - self._at)
        drained = max(0, self._depth - depth)
        weight = 1 - math.exp(-elapsed / MEMORY)
        self.rate += weight * (drained / elapsed - self.rate)
        self._depth, self._at = depth, now


class Creditor:
    """Computes credits from the depths of streams and the slots of workers."""

    def __init__(self, *, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._gauges: dict[str, Gauge] = {}

    def announced(self, queue: str, jobs: int) -> None:
        """Count `jobs` of a queue as just added to its streams."""
        self._gauges.setdefault(queue, Gauge()).announced(jobs)

    def credits(self, slots: Mapping[str, int], depths: Depths) -> list[Credit]:
        """Return the unspent credits. Lower bands do not use up the credit of higher ones, so an urgent job always passes."""
        unspent = []
        for queue, live in slots.items():
            gauge = self._gauges.setdefault(queue, Gauge())
            gauge.measure(sum(depths[queue, band] for band in BANDS))
            whole = max(live, int(gauge.rate * self._seconds))
            ahead = 0
            for band in BANDS:
                ahead += depths[queue, band]
                if whole > ahead:
                    unspent.append(Credit(queue, band, min(self._most, whole - ahead)))
        return unspent
