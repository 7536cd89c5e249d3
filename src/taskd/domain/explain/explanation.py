"""The answer of `taskd explain`: the main reason, and the facts beside it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from taskd.domain.explain.situation import Busy, Holder, Progress
from taskd.domain.job import JobStatus


class Estimate(msgspec.Struct, frozen=True, omit_defaults=True):
    """The seconds until the reason no longer holds, and the basis of this estimate. `at_least`: it may take longer."""

    seconds: float
    basis: str
    at_least: bool = False


class Beside(msgspec.Struct, frozen=True):
    """A fact beside the main reason."""

    reason: str
    summary: str
    advice: str


class ServerView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A worker that serves the queue. `knows_task` is absent if it is not known."""

    id: str
    slots: int
    busy: int
    quiet: bool = False
    draining: bool = False
    knows_task: bool | None = None


class Detail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The contents of the sentences, for programs; fields that do not apply are absent. `error`: the last error's last line.

    `ahead` jobs go first, or at least so many; the first twenty `workers` of the queue; the `slots` of all that take jobs, and
    how many are `busy`; the jobs that have had one `longest`; attempts of the queue that end per second (`rate`).
    """

    task: str
    queue: str
    priority: int
    effective_priority: int | None = None
    shard: int | None = None
    leader: str | None = None
    leader_renewed_at: datetime | None = None
    due_at: datetime | None = None
    attempt: int | None = None
    outcome: str | None = None
    error: str | None = None
    failures: int | None = None
    max_retries: int | None = None
    losses: int | None = None
    paused_at: datetime | None = None
    paused_by: str | None = None
    redis_away_since: datetime | None = None
    etcd_away_since: datetime | None = None
    workers: list[ServerView] | None = None
    slots: int | None = None
    busy: int | None = None
    longest: list[Busy] | None = None
    ahead: int | None = None
    ahead_at_least: bool = False
    rate: float | None = None
    queued_at: datetime | None = None
    delivered_to: str | None = None
    delivered_for: float | None = None
    worker_id: str | None = None
    started_at: datetime | None = None
    deadline: datetime | None = None
    lease_until: datetime | None = None
    progress: Progress | None = None
    lock: str | None = None
    lock_holder: Holder | None = None
    completed_at: datetime | None = None
    retried_as: int | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reason why a job is not running or not finished. `reason` is a stable code, `summary` its sentence.

    `at` is PostgreSQL's time at the look, `seen_by` the scheduler that looked.
    """

    id: int
    status: JobStatus
    reason: str
    summary: str
    advice: str
    estimate: Estimate | None = None
    beside: list[Beside] = []
    detail: Detail
    at: datetime
    seen_by: str = ""


class Finding(msgspec.Struct, frozen=True):
    """One reason that holds: the words for its sentence, and the details for programs."""

    reason: Any
    words: dict[str, Any]
    detail: dict[str, Any] = {}
    estimate: Estimate | None = None
