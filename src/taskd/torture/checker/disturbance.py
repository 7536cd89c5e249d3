"""The times in which a server was faulty: measurements across such a time say nothing about taskd."""

from __future__ import annotations

from typing import NamedTuple

from taskd.torture.history import Fault, History

#: The events that end a fault on the same target; a heal without a target ends all faults.
ENDS = frozenset({"SIGCONT", "restart", "start", "heal", "exit"})
POSTGRES = "postgres"


class Window(NamedTuple):
    """From `start` to `end`, in Unix seconds."""

    start: float
    end: float

    def touches(self, start: float, end: float) -> bool:
        """Return True if it overlaps `start` to `end`."""
        return self.start <= end and start <= self.end


def windows(history: History, target: str, *, what: str | None = None) -> list[Window]:
    """Return the times of the faults whose target has `target` in its name: servers, and links to them."""
    chosen = [f for f in history.faults if target in f.target and f.what not in ENDS and what in (None, f.what)]
    return [Window(fault.at, _end(history, fault)) for fault in chosen]


def _end(history: History, fault: Fault) -> float:
    if fault.until is not None:
        return fault.until
    for later in history.faults:
        if later.at >= fault.at and later.what in ENDS and later.target in ("", "all", fault.target):
            return later.at
    return float("inf") if history.meta.healed_at is None else max(fault.at, history.meta.healed_at)


def faulty_time(history: History) -> Window | None:
    """Return the time from the first fault to the end of the last; None if there were none."""
    faults = [fault for fault in history.faults if fault.what not in ENDS]
    if not faults:
        return None
    last = max(fault.until or fault.at for fault in faults)
    return Window(faults[0].at, max(last, history.meta.healed_at or last))
