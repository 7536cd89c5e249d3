"""I1, I10: what clients, and tasks that submit, were told against what was stored."""

from __future__ import annotations

from collections import defaultdict

from taskd.torture.checker.ledger import Ledger
from taskd.torture.history import History, Sign, Step


def check(history: History, ledger: Ledger) -> None:
    """Look at each key and each answer, and at each child."""
    steps: dict[str, list[Step]] = defaultdict(list)
    for step in history.clients:
        if step.key is not None and step.op in ("invoke", "ok", "fail", "unknown"):
            steps[step.key].append(step)
    stored = _stored(history)
    for key, own in steps.items():
        ledger.look("I1")
        _check_key(history, ledger, key, own, stored.get(key, set()))
    for key, ids in stored.items():
        ledger.look("I10")
        ledger.demand("I10", min(ids), len(ids) == 1, f"dedupe_key {key!r} has {len(ids)} jobs: {sorted(ids)}")
    for sign in history.trace:
        if sign.what == "child":
            ledger.look("I1")
            _check_child(history, ledger, sign)


def _stored(history: History) -> dict[str, set[int]]:
    """The jobs of each dedupe_key, whether their row or only their trail is left."""
    found: dict[str, set[int]] = defaultdict(set)
    for row in history.jobs:
        if row.dedupe_key is not None:
            found[row.dedupe_key].add(row.id)
    for event in history.events:
        if event.dedupe_key is not None:
            found[event.dedupe_key].add(event.job_id)
    return found


def _check_key(history: History, ledger: Ledger, key: str, steps: list[Step], stored: set[int]) -> None:
    told = {s.id for s in steps if s.op == "ok" and s.id is not None}
    for job_id in sorted(told):
        row = history.row_of.get(job_id)
        if row is None:
            ledger.blame("I1", job_id, f"key {key!r} was accepted as job {job_id}, which does not exist")
        elif row.dedupe_key not in (None, key):
            ledger.blame("I1", job_id, f"key {key!r} was answered with the job of key {row.dedupe_key!r}")
    known = told | stored
    first = min(known, default=None)
    ledger.demand("I1", first, len(known) <= 1, f"key {key!r} has {len(known)} jobs: {sorted(known)}")
    fails = sum(s.op == "fail" for s in steps)
    if not told and stored and fails and fails == sum(s.op == "invoke" for s in steps):
        ledger.blame("I1", first, f"key {key!r} was refused each time and stored all the same")


def _check_child(history: History, ledger: Ledger, sign: Sign) -> None:
    """Every attempt of the parent is told of the same child, which knows its parent."""
    key, child = sign.detail[0], int(sign.detail[1])
    row = history.row_of.get(child)
    if row is None:
        ledger.blame("I1", sign.job_id, f"its child {child} (key {key!r}) does not exist")
        return
    found = (row.dedupe_key, row.parent_id)
    message = f"job {sign.job_id} was told that this is its child {key!r}; its key and parent are {found}"
    ledger.demand("I1", child, found == (key, sign.job_id), message)
