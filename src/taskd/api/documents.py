"""The answers of the cluster's resources, as types: what is rendered and what the OpenAPI document says are one thing."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from taskd.api.problems import FieldError
from taskd.domain.health import Health
from taskd.domain.job import JobStatus, Scalar
from taskd.domain.output import Source
from taskd.domain.policy import Backoff
from taskd.domain.schedule import Fire, Missed, Overlap

Status = Literal["healthy", "degraded", "unhealthy"]


class AliveView(msgspec.Struct, kw_only=True):
    """A process whose event loop turns; what it can do is another question."""

    status: Literal["alive"] = "alive"


class HealthView(msgspec.Struct, kw_only=True):
    """One scheduler's health. `timestamp` is Unix seconds, `coordinator_health` true while etcd answers.

    `components` says of each server what is wrong.
    """

    status: Status
    instance_id: str
    is_leader: bool
    coordinator_health: bool
    timestamp: int
    components: dict[str, Health]


class MetricsView(msgspec.Struct, kw_only=True):
    """The cluster's counters; those of finished jobs since the cluster was made. Times are Unix seconds."""

    timestamp: int
    instance_id: str
    is_leader: bool
    pending_jobs: int
    queued_jobs: int
    running_jobs: int
    completed_jobs: int
    failed_jobs: int
    cancelled_jobs: int
    jobs_dispatched: int
    last_dispatch: int | None
    event_loop_tasks: int


class ShardView(msgspec.Struct, kw_only=True):
    """Who may dispatch the queues of one shard. There is no epoch while PostgreSQL is away."""

    shard: int
    current_leader: str | None
    epoch: int | UnsetType = UNSET


class LeaderView(msgspec.Struct, kw_only=True):
    """Who leads shard 0, whether this scheduler leads any, and all shards if there are several."""

    current_leader: str | None
    is_leader: bool
    instance_id: str
    epoch: int | UnsetType = UNSET
    shards: list[ShardView] | UnsetType = UNSET


class SchedulerView(msgspec.Struct, kw_only=True):
    """One scheduler and its own figures."""

    id: str
    incarnation: UUID
    address: str
    host: str
    pid: int
    started_at: datetime
    stats: dict[str, float]


class WorkerView(msgspec.Struct, kw_only=True):
    """One worker. While etcd is away, only what PostgreSQL knows of it."""

    id: str
    incarnation: UUID
    host: str
    pid: int
    queues: list[str]
    slots: int
    address: str | UnsetType = UNSET
    started_at: datetime | UnsetType = UNSET
    tasks: list[str] | UnsetType = UNSET
    stats: dict[str, float] | UnsetType = UNSET


class SchedulersView(msgspec.Struct, kw_only=True):
    """The schedulers that are registered."""

    source: Literal["etcd"]
    schedulers: list[SchedulerView]
    note: str | UnsetType = UNSET


class WorkersView(msgspec.Struct, kw_only=True):
    """The workers that are registered, and who says so."""

    source: Literal["etcd", "postgres"]
    workers: list[WorkerView]
    note: str | UnsetType = UNSET


class QueueView(msgspec.Struct, kw_only=True):
    """One queue: its live jobs, the seconds that its oldest due job has waited, and who serves it."""

    queue: str
    pending: int
    queued: int
    running: int
    oldest_pending: float | None
    workers: int
    slots: int


class QueuesView(msgspec.Struct, kw_only=True):
    """The queues that have live jobs or workers; `left_out`: how many more have jobs, fewer than each of these."""

    queues: list[QueueView]
    left_out: int | UnsetType = UNSET


class Stored(msgspec.Struct, kw_only=True):
    """The ids of a batch, in the order of its jobs; `duplicates` are those of them that an earlier job has."""

    ids: list[int]
    duplicates: list[int]


class LineView(msgspec.Struct, kw_only=True):
    """One line that an attempt has logged or printed, or (`source` is taskd) what became of others: `left_out` of them."""

    attempt: int
    line: int
    at: datetime
    source: Source
    level: str | UnsetType = UNSET
    text: str
    left_out: int | UnsetType = UNSET


class LogsView(msgspec.Struct, kw_only=True):
    """A page of lines; the next one begins at `cursor`, and there is one already if there is `more`.

    `status` and `attempts` (how many) are the job's before the lines were read: of a job that is final none comes later.
    """

    id: int
    status: JobStatus
    attempts: int
    lines: list[LineView]
    cursor: str
    more: bool


class JobPlanView(msgspec.Struct, kw_only=True):
    """The job that a schedule submits."""

    task: str
    queue: str
    priority: int
    payload: msgspec.Raw
    max_retries: int
    retry_backoff: Backoff
    timeout: float | UnsetType = UNSET
    metadata: dict[str, Scalar] | UnsetType = UNSET


class ScheduleView(msgspec.Struct, kw_only=True):
    """A schedule. `next_at` is null while it is paused; `fires` are its last ticks, newest first."""

    name: str
    cron: str | UnsetType = UNSET
    every: float | UnsetType = UNSET
    tz: str
    job: JobPlanView
    missed: Missed
    catch_up: int | UnsetType = UNSET
    overlap: Overlap
    app: str | UnsetType = UNSET
    next_at: datetime | None
    paused_at: datetime | UnsetType = UNSET
    paused_by: str | UnsetType = UNSET
    created_at: datetime
    changed_at: datetime
    fires: list[Fire] | UnsetType = UNSET


class ScheduleSummary(msgspec.Struct, kw_only=True):
    """A schedule for a caller that may change it and not read its job."""

    name: str
    next_at: datetime | None
    paused_at: datetime | UnsetType = UNSET
    paused_by: str | UnsetType = UNSET
    created_at: datetime
    changed_at: datetime


class NextFires(msgspec.Struct, kw_only=True):
    """The coming ticks of a schedule, with the offset of its zone; those that there would be, if it is paused."""

    name: str
    tz: str
    paused: bool
    fires: list[datetime]


class Removed(msgspec.Struct, kw_only=True):
    """A schedule that is no more."""

    name: str
    removed: Literal[True] = True


class ProblemView(msgspec.Struct, kw_only=True):
    """What went wrong (RFC 9457)."""

    type: str | UnsetType = UNSET
    title: str
    status: int
    detail: str
    errors: list[FieldError] | UnsetType = UNSET
    outcome_unknown: bool | UnsetType = UNSET
    job_status: str | UnsetType = UNSET
