"""How fast this worker's slots come free, for whoever wants to know how long a line takes."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence

#: Seconds over which is counted, and the least for which a rate says anything.
WINDOW, LEAST = 30.0, 2.5


class Rates:
    """Attempts that end per second, by queue. `ended` counts; what it costs is one addition an attempt."""

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self._then: deque[tuple[float, Counter[str]]] = deque([(time.monotonic(), Counter())])

    def measure(self, queues: Sequence[str], now: float | None = None) -> dict[str, float]:
        """The rates over about the last WINDOW seconds, or since the beginning; that nothing ends is told after WINDOW only."""
        now = time.monotonic() if now is None else now
        while len(self._then) > 1 and self._then[1][0] <= now - WINDOW:
            self._then.popleft()
        began, before = self._then[0]
        if now - self._then[-1][0] >= 1.0:
            self._then.append((now, Counter(self.ended)))
        elapsed = now - began
        if elapsed < LEAST:
            return {}
        rates = {queue: (self.ended[queue] - before[queue]) / elapsed for queue in queues}
        return {queue: float(f"{rate:.3g}") for queue, rate in rates.items() if rate or elapsed >= WINDOW}
