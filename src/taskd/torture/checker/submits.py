"""I1, I10: the responses to clients, and to tasks that submit, compared with the stored jobs."""

from __future__ import annotations

from collections import defaultdict

from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import History, Sign, Step


def check(history: History, ledger: Ledger) -> None:
    """Check each key and each response, and each child."""
    steps: dict[str, list[Step]] = defaultdict(list)
    for step in history.clients:
        if step.key is not None and step.op in ("invoke", "ok", "fail", "unknown"):
            steps[step.key].append(step)
    stored = _stored(history)
    for key, steps_of_key in steps.items():
        ledger.count("I1")
        _check_key(history, ledger, key, steps_of_key, stored.get(key, set()))
    for key, ids in stored.items():
        ledger.count("I10")
        ledger.require("I10", min(ids), len(ids) == 1, f"dedupe_key {key!r} has {len(ids)} jobs: {sorted(ids)}")
    for sign in history.trace:
        if sign.what == "child":
            ledger.count("I1")
            _check_child(history, ledger, sign)


def _stored(history: History) -> dict[str, set[int]]:
    """Return the jobs of each dedupe_key, also those of which only the events are left."""
    jobs: dict[str, set[int]] = defaultdict(set)
    for row in history.jobs:
        if row.dedupe_key is not None:
            jobs[row.dedupe_key].add(row.id)
    for event in history.events:
        if event.dedupe_key is not None:
            jobs[event.dedupe_key].add(event.job_id)
    return jobs


def _check_key(history: History, ledger: Ledger, key: str, steps: list[Step], stored: set[int]) -> None:
    accepted = {s.id for s in steps if s.op == "ok" and s.id is not None}
    for job_id in sorted(accepted):
        row = history.row_of.get(job_id)
        if row is None:
            ledger.report("I1", job_id, f"key {key!r} was accepted as job {job_id}, which does not exist")
        elif row.dedupe_key not in (None, key):
            ledger.report("I1", job_id, f"key {key!r} was answered with the job of key {row.dedupe_key!r}")
    known = accepted | stored
    first = min(known, default=None)
    ledger.require("I1", first, len(known) <= 1, f"key {key!r} has {len(known)} jobs: {sorted(known)}")
    fails = sum(s.op == "fail" for s in steps)
    if not accepted and stored and fails and fails == sum(s.op == "invoke" for s in steps):
        ledger.report("I1", first, f"key {key!r} was refused each time and stored all the same")


def _check_child(history: History, ledger: Ledger, sign: Sign) -> None:
    """Check that every attempt of the parent got the same child, and that the child has its parent."""
    key, child = sign.detail[0], int(sign.detail[1])
    row = history.row_of.get(child)
    if row is None:
        ledger.report("I1", sign.job_id, f"its child {child} (key {key!r}) does not exist")
        return
    stored = (row.dedupe_key, row.parent_id)
    message = f"job {sign.job_id} got this as its child {key!r}; its key and parent are {stored}"
    ledger.require("I1", child, stored == (key, sign.job_id), message)
