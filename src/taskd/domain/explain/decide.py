"""Which of the reasons that hold is the one, and what stands beside it. Pure: all that it goes by is a Situation.

The order of the checks decides. First comes what would still hold if everything after it were mended: a job of a paused queue
waits for whoever paused it, whether or not there are workers.
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
    nobody,
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
    """What is looked for, the most causal first; what it is if none of that holds; and what is only ever told beside it."""

    reasons: tuple[Check, ...]
    otherwise: Check
    beside: tuple[Check, ...] = ()


SERVERS: tuple[Check, ...] = (silent_leader, etcd_away)
BEFORE: tuple[Check, ...] = (nothing_ends, before, rung_again, *SERVERS)
#: It is not due.
EARLY = CheckOrder((put_off,), not_yet, (paused, unled, away, nobody, quiet, unknown_task, *SERVERS))
DUE = CheckOrder((paused, unled, away, nobody, quiet, unknown_task, needs_worker, line, busy), dispatching, BEFORE)
#: What is in Redis needs no leader any more, and what is delivered waits for its worker only.
QUEUED = CheckOrder(
    (away, delivered, paused, stranded, nobody, quiet, unknown_task, needs_worker, line, busy, doorbell_lost),
    offered,
    BEFORE,
)
RUNNING = CheckOrder((silent, locked, at_work), at_work, (progress, alone, deadline, unled, *SERVERS))
ENDED = CheckOrder((), ended, (retried,))


def explain(situation: Situation) -> Explanation:
    """The one reason, and what is true as well."""
    order = _order(situation)
    found = _found(order.reasons, situation) or _found((order.otherwise,), situation)
    found += _found(order.beside, situation)
    if _hopeless(found):
        found.sort(key=lambda finding: finding.reason is not why.TASK_UNKNOWN)
    first, own, job = found[0], _told(found[0], situation), situation.job
    detail: dict[str, object] = {}
    for finding in reversed(found):
        detail |= finding.detail
    return Explanation(
        id=job.id,
        status=job.status,
        reason=first.reason.code,
        summary=own.summary,
        advice=own.advice,
        estimate=first.estimate,
        beside=[_told(finding, situation) for finding in found[1:]],
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
    """Whether it waits for a retry that cannot do better: nobody knows its task."""
    return found[0].reason is why.RETRY and any(finding.reason is why.TASK_UNKNOWN for finding in found)


def _words(finding: Finding, situation: Situation) -> dict[str, object]:
    job = situation.job
    return {"id": job.id, "queue": job.queue, "task": job.task, **finding.words}


def _told(finding: Finding, situation: Situation) -> Beside:
    words, reason = _words(finding, situation), finding.reason
    return Beside(reason.code, reason.sentence.format_map(words), reason.advice.format_map(words))
