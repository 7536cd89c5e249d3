"""How much work may lie in Redis: about what the fleet drains in `credit_seconds`, at least its slots, never a backlog.

Everything else waits, sorted, in PostgreSQL: so priority is decided late, a wipe of Redis costs little, memory is flat.
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
    """The drain rate of one queue: what was announced and is no longer there was drained."""

    def __init__(self) -> None:
        self._depth = 0
        self._at = time.monotonic()
        self.rate = 0.0

    def announced(self, jobs: int) -> None:
        """So many were just added."""
        self._depth += jobs

    def measure(self, depth: int) -> None:
        """The queue's streams hold `depth` entries now."""
        now = time.monotonic()
        elapsed = max(1e-3, now - self._at)
        drained = max(0, self._depth - depth)
        weight = 1 - math.exp(-elapsed / MEMORY)
        self.rate += weight * (drained / elapsed - self.rate)
        self._depth, self._at = depth, now


class Creditor:
    """Turns depths and slots into credits."""

    def __init__(self, *, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._gauges: dict[str, Gauge] = {}

    def announced(self, queue: str, jobs: int) -> None:
        """So many jobs of a queue were just announced."""
        self._gauges.setdefault(queue, Gauge()).announced(jobs)

    def credits(self, slots: Mapping[str, int], depths: Depths) -> list[Credit]:
        """The credits that are not spent. Lower bands do not use up the credit of higher ones: an urgent job always passes."""
        found = []
        for queue, live in slots.items():
            gauge = self._gauges.setdefault(queue, Gauge())
            gauge.measure(sum(depths[queue, band] for band in BANDS))
            whole = max(live, int(gauge.rate * self._seconds))
            ahead = 0
            for band in BANDS:
                ahead += depths[queue, band]
                if whole > ahead:
                    found.append(Credit(queue, band, min(self._most, whole - ahead)))
        return found
