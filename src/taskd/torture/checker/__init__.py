"""Looks for broken invariants in a recorded history: offline, from the files alone.

docs/invariants.md has the promises by number. A check never blames a correct system for what a fault did to it: where a
history cannot tell, it lets the case go. What each check looked at is counted, because a check that saw nothing proves nothing.
"""

from __future__ import annotations

from taskd.torture.checker import (
    attempts,
    company,
    ends,
    leaders,
    locks,
    moves,
    notes,
    order,
    outputs,
    schedules,
    sessions,
    submits,
)
from taskd.torture.checker.ledger import Ledger, Violation
from taskd.torture.history import History

__all__ = ["INVARIANTS", "Ledger", "Violation", "check", "examine"]

#: Every invariant, in order.
INVARIANTS = tuple(f"I{number}" for number in range(1, 20))
_THEMES = (submits, moves, attempts, company, locks, leaders, order, sessions, outputs, ends, schedules, notes)


def check(history: History) -> list[Violation]:
    """All broken promises."""
    return examine(history).violations


def examine(history: History) -> Ledger:
    """All broken promises, and how much was looked at."""
    ledger = Ledger()
    for theme in _THEMES:
        theme.check(history, ledger)
    ledger.violations.sort(key=lambda v: INVARIANTS.index(v.invariant))
    return ledger
