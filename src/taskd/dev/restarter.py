"""Restarts of one child: it is started again when it dies, with growing delays if it keeps dying."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection

from taskd.dev.child_process import ChildProcess
from taskd.dev.logs import Tail
from taskd.dev.stop_signals import StopSignals

FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0
#: After this many seconds alive, the next death counts as a first one.
STABLE_AFTER = 30.0

Say = Callable[[str, str], None]


class Restarter:
    """One child, its launch, and its log. `say(name, line)` shows the user a line."""

    def __init__(self, name: str, child: ChildProcess, launch: Callable[[], None], tail: Tail, say: Say) -> None:
        self.name = name
        self.child = child
        self.tail = tail
        self._launch = launch
        self._say = say
        self._delay = FIRST_DELAY
        self._launched_at = 0.0
        self._due: float | None = None
        self._extra_delay = 0.0

    def launch(self) -> None:
        """Start the child the first time. Raises OSError, or the error of the launch."""
        self._launched_at = time.monotonic()
        self._launch()

    def delay_restart(self, seconds: float) -> None:
        """After its next death, wait at least so many seconds before the restart."""
        self._extra_delay = seconds

    def check(self) -> None:
        """Show the child's new log messages, and start it again if it died and its delay is over. Never blocks or raises."""
        for message in self.tail.messages():
            self._say(self.name, message)
        if self.child.pid is not None:
            return
        if self._due is None:
            self._schedule()
        elif time.monotonic() >= self._due:
            self._due = None
            self._launch_again()

    def _schedule(self) -> None:
        if time.monotonic() - self._launched_at > STABLE_AFTER:
            self._delay = FIRST_DELAY
        delay, self._extra_delay = max(self._delay, self._extra_delay), 0.0
        self._say(self.name, f"ended ({describe(self.child.exit_status)}); starting it again in {delay:.1f} s")
        self._due = time.monotonic() + delay
        self._delay = min(self._delay * 2, LONGEST_DELAY)

    def _launch_again(self) -> None:
        try:
            self.launch()
        except Exception as error:  # noqa: BLE001  the other children must be kept alive; this one is reported and tried again
            self._say(self.name, f"could not be started: {error}")
            self._due = time.monotonic() + self._delay
            return
        self._say(self.name, f"started again (process {self.child.pid})")


def supervise(restarters: Collection[Restarter], signals: StopSignals, until: Callable[[], bool], every: float) -> None:
    """Keep all children alive until `until`, called each `every` seconds, is true. Raises StopAsked."""
    while not until():
        for restarter in restarters:
            restarter.check()
        signals.pause(every)


def describe(exit_status: int | None) -> str:
    """Return an exit status as text."""
    if exit_status is None:
        return "it never ran"
    if exit_status >= 0:
        return f"exit status {exit_status}"
    try:
        return f"killed by {signal.Signals(-exit_status).name}"
    except ValueError:
        return f"killed by signal {-exit_status}"
