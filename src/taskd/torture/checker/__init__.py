"""The check of a recorded history for broken invariants: offline, from the files alone.

Limits: a check never reports a correct system for the effects of a fault. So where a history is ambiguous, the case passes.
Times come from one machine; each module names the slack that it allows between clocks and for rounding.

Model: docs/invariants.md has the invariants by number, I1 to I19. Each module has a function `check(history, ledger)` for one
theme. It groups the records that `History` indexes, and reports violations to the `Ledger`. The checks share `disturbance`
(the times in which a server was faulty) and `leaders` (the terms of each shard).

Guarantees: the result depends on the history alone, so it can be repeated. Everything that a check examines is counted:
a check that examined nothing proves nothing, and the report says so.

Failures: a line that cannot be decoded is an error of the run, not a violation. Torn lines of the trace are counted and
left out. `report` prints each violation with the whole history of its job.
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
    """Return all violations."""
    return examine(history).violations


def examine(history: History) -> Ledger:
    """Return all violations, and the number of things that each check examined."""
    ledger = Ledger()
    for theme in _THEMES:
        theme.check(history, ledger)
    ledger.violations.sort(key=lambda v: INVARIANTS.index(v.invariant))
    return ledger
