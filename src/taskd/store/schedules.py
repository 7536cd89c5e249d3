"""Schedules, as the API reads and changes them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

import msgspec

from taskd.domain.job import JobSpec, Scalar
from taskd.domain.policy import Backoff
from taskd.domain.schedule import Fire, Missed, Overlap, Plan, Schedule
from taskd.domain.ticks import TickRule
from taskd.store.lane import PAGE_BYTES, Lane, Row
from taskd.store.statements import statement

PAGE = statement("schedules")
ONE = statement("schedule")
PUT = statement("put_schedule")
REMOVE = statement("remove_schedule")
PAUSE = statement("pause_schedule")
RESUME = statement("resume_schedule")
#: The number of last ticks with which one schedule is shown.
FIRES = 10

_backoff = msgspec.json.Decoder(Backoff)
_metadata = msgspec.json.Decoder(dict[str, Scalar])
_fires = msgspec.json.Decoder(list[Fire])


class PostgresSchedules:
    """Implements `taskd.seams.Schedules`. Calls `changed` after each change, in the event loop."""

    def __init__(self, lane: Lane, *, changed: Callable[[], None]) -> None:
        self._lane = lane
        self._changed = changed

    async def page(self, after: str, queues: Collection[str] | None, limit: int) -> tuple[list[Schedule], bool]:
        rows = await self._lane.fetch(
            PAGE, {"after": after, "queues": _queues(queues), "limit": limit, "budget": PAGE_BYTES}
        )
        return [_schedule(row[:-1]) for row in rows], bool(rows and rows[0][-1])

    async def one(self, name: str) -> Schedule | None:
        rows = await self._lane.fetch(ONE, {"name": name, "limit": FIRES})
        return _schedule(rows[0]) if rows else None

    async def put(self, plan: Plan, *, replace: bool, queues: Collection[str] | None = None) -> bool | None:
        document = msgspec.json.encode(_row(plan)).decode()
        rows = await self._lane.fetch(PUT, {"schedule": document, "replace": replace, "queues": _queues(queues)})
        self._changed()
        return bool(rows[0][0]) if rows else None

    async def remove(self, name: str, queues: Collection[str] | None = None) -> bool:
        return bool(await self._lane.fetch(REMOVE, {"name": name, "queues": _queues(queues)}))

    async def pause(self, name: str, who: str, queues: Collection[str] | None = None) -> None:
        await self._lane.fetch(PAUSE, {"name": name, "who": who, "queues": _queues(queues)})

    async def resume(self, name: str, queues: Collection[str] | None = None) -> None:
        await self._lane.fetch(RESUME, {"name": name, "queues": _queues(queues)})
        self._changed()


def _queues(queues: Collection[str] | None) -> list[str] | None:
    return sorted(queues) if queues is not None else None


def _row(plan: Plan) -> dict[str, Any]:
    """Return the plan as put_schedule.sql reads it."""
    job = plan.job
    return {
        "name": plan.name,
        "cron": plan.rule.cron,
        "every": plan.rule.every,
        "tz": plan.rule.tz,
        "task": job.task,
        "queue": job.queue,
        "priority": job.priority,
        "max_retries": job.max_retries,
        "backoff": job.retry_backoff,
        "timeout": job.timeout,
        "metadata": job.metadata or None,
        "payload": job.payload,
        "missed": plan.missed,
        "catch_up": plan.catch_up,
        "overlap": plan.overlap,
        "app": plan.app,
    }


def _schedule(row: Row) -> Schedule:
    name, cron, every, tz, *job, missed, catch_up, overlap, app = row[:16]
    times: tuple[int, datetime, datetime, datetime, datetime, datetime] = row[16:22]
    revision, anchor, decided_until, now, created_at, changed_at = times
    paused_at, paused_by, fires = row[22:]
    return Schedule(
        plan=Plan(
            name=name,
            rule=TickRule(cron=cron, every=every, tz=tz),
            job=_job(*job),
            missed=Missed(missed),
            catch_up=catch_up,
            overlap=Overlap(overlap),
            app=app,
        ),
        revision=revision,
        anchor=anchor,
        decided_until=decided_until,
        now=now,
        created_at=created_at,
        changed_at=changed_at,
        paused_at=paused_at,
        paused_by=paused_by,
        fires=_fires.decode(fires) if fires is not None else [],
    )


def _job(
    task: str,
    queue: str,
    priority: int,
    max_retries: int,
    backoff: msgspec.Raw,
    timeout: float | None,
    metadata: msgspec.Raw | None,
    payload: msgspec.Raw,
) -> JobSpec:
    return JobSpec(
        payload=payload,
        task=task,
        queue=queue,
        priority=priority,
        max_retries=max_retries,
        retry_backoff=_backoff.decode(backoff),
        timeout=timeout,
        metadata=_metadata.decode(metadata) if metadata is not None else {},
    )
