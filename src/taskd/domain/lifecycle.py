"""The legal moves of a job, as one table. docs/invariants.md shows the same table and a test compares the two."""

from __future__ import annotations

from typing import NamedTuple

from taskd.domain.job import JobStatus as S


class Transition(NamedTuple):
    """One edge: `source` is None for a job that does not exist yet."""

    name: str
    source: S | None
    target: S
    by: str


TRANSITIONS = (
    Transition("submit", None, S.PENDING, "a client, or the leader for a schedule"),
    Transition("dispatch", S.PENDING, S.QUEUED, "the leader"),
    Transition("claim", S.QUEUED, S.RUNNING, "a worker"),
    Transition("re-offer", S.QUEUED, S.PENDING, "the leader"),
    Transition("put off", S.QUEUED, S.PENDING, "a busy worker, for a job that only runs alone"),
    Transition("complete", S.RUNNING, S.COMPLETED, "the claim's holder"),
    Transition(
        "fail", S.RUNNING, S.FAILED, "the claim's holder, or the leader for a job that keeps losing its workers"
    ),
    Transition("retry", S.RUNNING, S.PENDING, "the claim's holder, after a backoff"),
    Transition("release", S.RUNNING, S.PENDING, "the claim's holder, at no cost"),
    Transition("snooze", S.RUNNING, S.PENDING, "the claim's holder, when the task asks for it"),
    Transition("reap", S.RUNNING, S.PENDING, "the leader, when the claim's session is dead"),
    Transition("cancel", S.PENDING, S.CANCELLED, "a client"),
    Transition("cancel", S.QUEUED, S.CANCELLED, "a client"),
    Transition("cancel", S.RUNNING, S.CANCELLED, "a client"),
)

EDGES = frozenset((t.source, t.target) for t in TRANSITIONS)


def legal(source: S | None, target: S) -> bool:
    """True if a job may move from `source` to `target`."""
    return (source, target) in EDGES
