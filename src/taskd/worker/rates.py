"""The rate at which this worker's attempts end. Explanations estimate the time that a queue takes by it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence

#: Seconds over which ends are counted, and the least for which a rate is reported.
WINDOW, LEAST = 30.0, 2.5


class Rates:
    """Attempts that end per second, by queue. The caller counts them in `ended`: one addition for each."""

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self._samples: deque[tuple[float, Counter[str]]] = deque([(time.monotonic(), Counter())])

    def measure(self, queues: Sequence[str], now: float | None = None) -> dict[str, float]:
        """Return the rates over about the last WINDOW seconds, or since the start; a rate of zero only after WINDOW."""
        now = time.monotonic() if now is None else now
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()
        began, before = self._samples[0]
        if now - self._samples[-1][0] >= 1.0:
            self._samples.append((now, Counter(self.ended)))
        elapsed = now - began
        if elapsed < LEAST:
            return {}
        rates = {queue: (self.ended[queue] - before[queue]) / elapsed for queue in queues}
        return {queue: float(f"{rate:.3g}") for queue, rate in rates.items() if rate or elapsed >= WINDOW}
