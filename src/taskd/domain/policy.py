"""The limits and pauses of a job's retries (Policy, Backoff), and its earlier attempts by outcome (Record)."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

#: A job that lost this many workers runs alone in its worker from then on: so far a neighbour may have ended them.
SUSPECT_AFTER = 2
#: A job under which this many workers disappeared while it ran alone fails for good.
LONE_LOSS_LIMIT = 3


class Backoff(msgspec.Struct, frozen=True):
    """Exponential backoff, in seconds: `initial * factor ** (failures - 1)`, at most `max`.

    With `jitter` the delay is drawn evenly from the upper half of that ("equal jitter", AWS architecture blog 2015), so
    that jobs that failed together do not come back together and none comes back at once.
    """

    initial: float = 1.0
    factor: float = 2.0
    max: float = 3600.0
    jitter: bool = True

    def delay(self, failures: int, draw: Callable[[], float] = random.random) -> float:
        """Return the delay in seconds after `failures` failures; `draw` gives an evenly distributed number in [0, 1)."""
        whole = self._whole(failures)
        return whole / 2 + whole / 2 * draw() if self.jitter else whole

    def _whole(self, failures: int) -> float:
        try:
            return min(self.max, self.initial * self.factor ** max(0, failures - 1))
        except OverflowError:
            return self.max


class Policy(msgspec.Struct, frozen=True):
    """The number of retries that a job may have, and the pauses before them."""

    max_retries: int = 3
    backoff: Backoff = Backoff()


class Record(msgspec.Struct, frozen=True):
    """A job's earlier attempts that went wrong. Each cause has its own counter, so that a lost worker costs no retry, say."""

    failures: int = 0
    crashes: int = 0
    losses: int = 0
