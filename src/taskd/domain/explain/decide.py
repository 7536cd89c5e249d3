"""Decides which of the reasons that hold is the main one. Pure: it depends on a Situation alone.

The order of the checks decides. First come reasons that would still hold if all later ones were removed: a job of a paused
queue waits, with or without workers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from taskd.domain.explain import reasons as why
from taskd.domain.explain.endings import ended, retried
from taskd.domain.explain.explanation import Beside, Detail, Explanation, Finding
from taskd.domain.explain.obstacles import (
    away,
    busy,
    delivered,
    dispatching,
    doorbell_lost,
    etcd_away,
    line,
    needs_worker,
    no_worker,
    nothing_ends,
    offered,
    paused,
    quiet,
    silent_leader,
    stranded,
    unknown_task,
    unled,
)
from taskd.domain.explain.past import before, not_yet, put_off, rung_again
from taskd.domain.explain.running import alone, at_work, deadline, locked, progress, silent
from taskd.domain.explain.situation import Situation
from taskd.domain.job import JobStatus

Check = Callable[[Situation], Finding | None]


class CheckOrder(NamedTuple):
    """Checks for the main reason, the most causal first; the reason if none holds; and checks for facts beside it."""

    reasons: tuple[Check, ...]
    otherwise: Check
    beside: tuple[Check, ...] = ()


SERVERS: tuple[Check, ...] = (silent_leader, etcd_away)
BEFORE: tuple[Check, ...] = (nothing_ends, before, rung_again, *SERVERS)
#: For jobs that are not due.
EARLY = CheckOrder((put_off,), not_yet, (paused, unled, away, no_worker, quiet, unknown_task, *SERVERS))
DUE = CheckOrder((paused, unled, away, no_worker, quiet, unknown_task, needs_worker, line, busy), dispatching, BEFORE)
#: An entry in Redis needs no leader any more, and a delivered one waits for its worker only.
QUEUED = CheckOrder(
    (away, delivered, paused, stranded, no_worker, quiet, unknown_task, needs_worker, line, busy, doorbell_lost),
    offered,
    BEFORE,
)
RUNNING = CheckOrder((silent, locked, at_work), at_work, (progress, alone, deadline, unled, *SERVERS))
ENDED = CheckOrder((), ended, (retried,))


def explain(situation: Situation) -> Explanation:
    """Return the main reason, and the other facts beside it."""
    order = _order(situation)
    found = _found(order.reasons, situation) or _found((order.otherwise,), situation)
    found += _found(order.beside, situation)
    if _hopeless(found):
        found.sort(key=lambda finding: finding.reason is not why.TASK_UNKNOWN)
    first, main, job = found[0], _sentence(found[0], situation), situation.job
    detail: dict[str, object] = {}
    for finding in reversed(found):
        detail |= finding.detail
    return Explanation(
        id=job.id,
        status=job.status,
        reason=first.reason.code,
        summary=main.summary,
        advice=main.advice,
        estimate=first.estimate,
        beside=[_sentence(finding, situation) for finding in found[1:]],
        detail=Detail(task=job.task, queue=job.queue, priority=job.priority, **detail),  # type: ignore[arg-type]  # its own fields
        at=job.now,
    )


def _found(checks: tuple[Check, ...], situation: Situation) -> list[Finding]:
    return [finding for check in checks if (finding := check(situation)) is not None]


def _order(situation: Situation) -> CheckOrder:
    match situation.job.status:
        case JobStatus.PENDING:
            return DUE if situation.job.due else EARLY
        case JobStatus.QUEUED:
            return QUEUED
        case JobStatus.RUNNING:
            return RUNNING
        case _:
            return ENDED


def _hopeless(found: list[Finding]) -> bool:
    """Return True if the job waits for a retry that must fail too: no worker knows its task."""
    return found[0].reason is why.RETRY and any(finding.reason is why.TASK_UNKNOWN for finding in found)


def _words(finding: Finding, situation: Situation) -> dict[str, object]:
    job = situation.job
    return {"id": job.id, "queue": job.queue, "task": job.task, **finding.words}


def _sentence(finding: Finding, situation: Situation) -> Beside:
    words, reason = _words(finding, situation), finding.reason
    return Beside(reason.code, reason.sentence.format_map(words), reason.advice.format_map(words))
