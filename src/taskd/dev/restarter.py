"""Keeping one child alive: started again when it dies, later and later if it keeps dying."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection

from taskd.dev.child_process import ChildProcess
from taskd.dev.logs import Tail
from taskd.dev.stop_signals import StopSignals

FIRST_DELAY, LONGEST_DELAY = 0.2, 10.0
#: Alive for this long, a child is well again: the next death is a first one.
WELL_AFTER = 30.0

Say = Callable[[str, str], None]


class Restarter:
    """One child, how to launch it, and its log. `say(name, line)` tells the user."""

    def __init__(self, name: str, child: ChildProcess, launch: Callable[[], None], tail: Tail, say: Say) -> None:
        self.name = name
        self.child = child
        self.tail = tail
        self._launch = launch
        self._say = say
        self._delay = FIRST_DELAY
        self._launched_at = 0.0
        self._due: float | None = None
        self._rest = 0.0

    def launch(self) -> None:
        """Start the child the first time. Raises OSError or what the launch raises."""
        self._launched_at = time.monotonic()
        self._launch()

    def rest(self, seconds: float) -> None:
        """After its next death, start it again only after so long."""
        self._rest = seconds

    def look(self) -> None:
        """Pass on what the child logged; start it again if it died and its time has come. Never blocks, raises nothing."""
        for message in self.tail.news():
            self._say(self.name, message)
        if self.child.pid is not None:
            return
        if self._due is None:
            self._schedule()
        elif time.monotonic() >= self._due:
            self._due = None
            self._launch_again()

    def _schedule(self) -> None:
        if time.monotonic() - self._launched_at > WELL_AFTER:
            self._delay = FIRST_DELAY
        delay, self._rest = max(self._delay, self._rest), 0.0
        self._say(self.name, f"ended ({describe(self.child.exit_status)}); starting it again in {delay:.1f} s")
        self._due = time.monotonic() + delay
        self._delay = min(self._delay * 2, LONGEST_DELAY)

    def _launch_again(self) -> None:
        try:
            self.launch()
        except Exception as error:  # noqa: BLE001  whatever it is, the others must be kept alive; it is tried again and said
            self._say(self.name, f"could not be started: {error}")
            self._due = time.monotonic() + self._delay
            return
        self._say(self.name, f"started again (process {self.child.pid})")


def keep(keepers: Collection[Restarter], bell: StopSignals, until: Callable[[], bool], every: float) -> None:
    """Keep all of them alive until `until`, asked each `every` seconds, is true. Raises StopAsked."""
    while not until():
        for keeper in keepers:
            keeper.look()
        bell.pause(every)


def describe(exit_status: int | None) -> str:
    """How a process ended, for people."""
    if exit_status is None:
        return "it never ran"
    if exit_status >= 0:
        return f"exit status {exit_status}"
    try:
        return f"killed by {signal.Signals(-exit_status).name}"
    except ValueError:
        return f"killed by signal {-exit_status}"
