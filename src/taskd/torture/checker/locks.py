"""I11: named locks, as the tasks that held them saw it.

A task looks at its lock before each sign of holding it ("held"), or relies on being stopped when it is lost ("believe"). A
worker that stands still stops nobody, and an etcd that was wiped knows no holder: then a belief may be wrong for a while, and
the fence is what counts.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

from taskd.torture.checker.disturbance import windows
from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import History, Sign


class HeldSpan(NamedTuple):
    """One holder's time, from the lock to the last sign of holding it. BOOTTIME's order is that of the machine."""

    since: float
    until: float
    fence: int
    job_id: int
    attempt: int
    #: Until when the lock was not only believed in.
    known: float


def check(history: History, ledger: Ledger) -> None:
    """Look at each lock by name."""
    for name, holds in _holds(history).items():
        holds.sort()
        ledger.look("I11", len(holds))
        until, holder = holds[0].until, holds[0]
        for before, after in pairwise(holds):
            who = f"job {holder.job_id} (attempt {holder.attempt})"
            message = f"lock {name!r} was held by {who} until {until:.3f} and taken at {after.since:.3f}"
            right = until < after.since or _may_believe(history, holder, after.since)
            ledger.demand("I11", after.job_id, right, message)
            message = f"lock {name!r}: fence {after.fence} came after {before.fence}"
            ledger.demand("I11", after.job_id, before.fence < after.fence, message)
            if after.until > until:
                until, holder = after.until, after


def _may_believe(history: History, hold: HeldSpan, moment: float) -> bool:
    """True if nobody could tell the task, which did not look for itself, that it had lost its lock by then."""
    if hold.known >= moment:
        return False
    events = history.events_of.get(hold.job_id, [])
    worker = next((e.worker_id for e in events if e.attempt == hold.attempt and e.worker_id), None)
    still = windows(history, worker, what="SIGSTOP") if worker is not None else []
    wiped = windows(history, "etcd", what="wipe")
    return any(window.touches(hold.since, hold.until) for window in (*still, *wiped))


def _holds(history: History) -> dict[str, list[HeldSpan]]:
    found: dict[str, list[HeldSpan]] = defaultdict(list)
    for attempts in history.signs_of.values():
        for signs in attempts.values():
            _collect(found, signs)
    return found


def _collect(found: dict[str, list[HeldSpan]], signs: list[Sign]) -> None:
    """One attempt's holds; it may take a lock again after it gave it back."""
    held: dict[str, HeldSpan] = {}
    for sign in signs:
        if sign.what not in ("lock", "held", "believe", "unlock") or len(sign.detail) < 2:
            continue
        name, fence = sign.detail[0], int(sign.detail[1])
        if name not in held or sign.what == "lock":
            if name in held:
                found[name].append(held[name])
            held[name] = HeldSpan(sign.at, sign.at, fence, sign.job_id, sign.attempt, sign.at)
        elif sign.what == "believe":
            held[name] = held[name]._replace(until=sign.at)
        else:
            held[name] = held[name]._replace(until=sign.at, known=sign.at)
        if sign.what == "unlock":
            found[name].append(held.pop(name))
    for name, hold in held.items():
        found[name].append(hold)
