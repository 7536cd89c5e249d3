"""I11: named locks, as recorded by the tasks that held them.

A task either checks its lock before each line "held", or relies on being stopped when the lock is lost ("believe"). A frozen
worker stops no task, and a wiped etcd knows no holder. Then a task may believe in a lost lock for a while, and only the order
of the fences counts.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

from taskd.torture.checker.disturbance import windows
from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import History, Sign


class HeldSpan(NamedTuple):
    """One holder's time, from the lock to the last line about holding it, by BOOTTIME, which all processes share."""

    since: float
    until: float
    fence: int
    job_id: int
    attempt: int
    #: The last time at which the task checked the lock.
    known: float


def check(history: History, ledger: Ledger) -> None:
    """Check each lock by name."""
    for name, holds in _holds(history).items():
        holds.sort()
        ledger.count("I11", len(holds))
        until, holder = holds[0].until, holds[0]
        for before, after in pairwise(holds):
            label = f"job {holder.job_id} (attempt {holder.attempt})"
            message = f"lock {name!r} was held by {label} until {until:.3f} and taken at {after.since:.3f}"
            right = until < after.since or _may_believe(history, holder, after.since)
            ledger.require("I11", after.job_id, right, message)
            message = f"lock {name!r}: fence {after.fence} came after {before.fence}"
            ledger.require("I11", after.job_id, before.fence < after.fence, message)
            if after.until > until:
                until, holder = after.until, after


def _may_believe(history: History, hold: HeldSpan, moment: float) -> bool:
    """Return True if the task did not check its lock, and no component could stop it after the lock's loss by `moment`."""
    if hold.known >= moment:
        return False
    events = history.events_of.get(hold.job_id, [])
    worker = next((e.worker_id for e in events if e.attempt == hold.attempt and e.worker_id), None)
    still = windows(history, worker, what="SIGSTOP") if worker is not None else []
    wiped = windows(history, "etcd", what="wipe")
    return any(window.touches(hold.since, hold.until) for window in (*still, *wiped))


def _holds(history: History) -> dict[str, list[HeldSpan]]:
    holds: dict[str, list[HeldSpan]] = defaultdict(list)
    for attempts in history.signs_of.values():
        for signs in attempts.values():
            _collect(holds, signs)
    return holds


def _collect(holds: dict[str, list[HeldSpan]], signs: list[Sign]) -> None:
    """Add one attempt's holds; it may take a lock again after its release."""
    held: dict[str, HeldSpan] = {}
    for sign in signs:
        if sign.what not in ("lock", "held", "believe", "unlock") or len(sign.detail) < 2:
            continue
        name, fence = sign.detail[0], int(sign.detail[1])
        if name not in held or sign.what == "lock":
            if name in held:
                holds[name].append(held[name])
            held[name] = HeldSpan(sign.at, sign.at, fence, sign.job_id, sign.attempt, sign.at)
        elif sign.what == "believe":
            held[name] = held[name]._replace(until=sign.at)
        else:
            held[name] = held[name]._replace(until=sign.at, known=sign.at)
        if sign.what == "unlock":
            holds[name].append(held.pop(name))
    for name, hold in held.items():
        holds[name].append(hold)
