"""One process that is started again whenever it ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from taskd.dev.child import Child
from taskd.domain.errors import TaskdError

FIRST_DELAY = 0.2
LONGEST_DELAY = 10.0
#: A process that ran this long is healthy: its next end is news, not a pattern.
HEALTHY_AFTER = 20.0


class Supervised:
    """A child with a name, a way to launch it, and the signal that ends it in order."""

    def __init__(self, name: str, child: Child, launch: Callable[[], None], stop_signal: int = signal.SIGTERM) -> None:
        self.name = name
        self.child = child
        self.stop_signal = stop_signal
        self._launch = launch
        self._delay = FIRST_DELAY
        self._launched_at = 0.0
        self._again_at: float | None = None

    def launch(self) -> None:
        """Start it. Raises TaskdError or OSError."""
        self._again_at = None
        self._launched_at = time.monotonic()
        self._launch()

    def look(self) -> str | None:
        """Start it again if it has ended and its pause is over; a line that says what happened, if anything did."""
        if self.child.pid is not None:
            return None
        now = time.monotonic()
        if self._again_at is None:
            if now - self._launched_at > HEALTHY_AFTER:
                self._delay = FIRST_DELAY
            return self._put_off(f"{self.ending()}")
        if now < self._again_at:
            return None
        try:
            self.launch()
        except (TaskdError, OSError) as error:
            return self._put_off(f"{self.name} could not be started: {error}")
        return None

    def ending(self) -> str:
        """How the last run ended, in words."""
        status = self.child.exit_status
        if status is not None and status < 0:
            return f"{self.name} was killed by {signal.Signals(-status).name}"
        return f"{self.name} ended with exit status {status}"

    def _put_off(self, event: str) -> str:
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_DELAY)
        self._again_at = time.monotonic() + delay
        return f"{event}; starting it again in {delay:.1f} s (its log: {self.child.log})"
