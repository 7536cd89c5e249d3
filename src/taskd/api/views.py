"""Types of responses. They are rendered from these types, and the OpenAPI document describes the same types."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from taskd.api.problems import FieldError
from taskd.domain.health import Health
from taskd.domain.job import Job, JobStatus, Scalar
from taskd.domain.output import Source
from taskd.domain.policy import Backoff
from taskd.domain.schedule import Fire, Missed, Overlap
from taskd.domain.timeline import Stage

Status = Literal["healthy", "degraded", "unhealthy"]


class AliveView(msgspec.Struct, kw_only=True):
    """A process whose event loop runs; /health reports whether it can work."""

    status: Literal["alive"] = "alive"


class HealthView(msgspec.Struct, kw_only=True):
    """One scheduler's health. `timestamp` is Unix seconds, `coordinator_health` is true while etcd answers.

    `components` has the state of each server.
    """

    status: Status
    instance_id: str
    is_leader: bool
    coordinator_health: bool
    timestamp: int
    components: dict[str, Health]


class MetricsView(msgspec.Struct, kw_only=True):
    """The cluster's counters; finished jobs are counted from the cluster's creation. Times are Unix seconds."""

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
    """The leader of one shard, which alone dispatches its queues. There is no epoch while PostgreSQL is away."""

    shard: int
    current_leader: str | None
    epoch: int | UnsetType = UNSET


class LeadersView(msgspec.Struct, kw_only=True):
    """The leader of shard 0, and all shards if there are several. `is_leader`: this scheduler leads a shard."""

    current_leader: str | None
    is_leader: bool
    instance_id: str
    epoch: int | UnsetType = UNSET
    shards: list[ShardView] | UnsetType = UNSET


class SchedulerView(msgspec.Struct, kw_only=True):
    """One scheduler and its own metrics."""

    id: str
    incarnation: UUID
    address: str
    host: str
    pid: int
    started_at: datetime
    stats: dict[str, float]


class WorkerView(msgspec.Struct, kw_only=True):
    """One worker. While etcd is away, only the fields that PostgreSQL has."""

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
    """The workers that are registered, and the server that the list comes from."""

    source: Literal["etcd", "postgres"]
    workers: list[WorkerView]
    note: str | UnsetType = UNSET


class QueueView(msgspec.Struct, kw_only=True):
    """One queue: its live jobs, the seconds that its oldest due job has waited, and its workers and their slots."""

    queue: str
    pending: int
    queued: int
    running: int
    oldest_pending: float | None
    workers: int
    slots: int


class QueuesView(msgspec.Struct, kw_only=True):
    """The queues that have live jobs or workers. `left_out`: how many more queues have jobs, fewer than each of these."""

    queues: list[QueueView]
    left_out: int | UnsetType = UNSET


class BatchView(msgspec.Struct, kw_only=True):
    """The ids of a batch, in the order of its jobs; `duplicates` are the ids that belong to earlier jobs."""

    ids: list[int]
    duplicates: list[int]


class DuplicateJob(Job, frozen=True):
    """A job that an earlier request made."""

    duplicate: bool = True


class JobWithTimeline(Job, frozen=True, kw_only=True):
    """A job with its attempts, and the time that it spent in each state."""

    timeline: list[Stage]


class LineView(msgspec.Struct, kw_only=True):
    """One line that an attempt logged or printed. A line whose `source` is taskd stands for `left_out` missing lines."""

    attempt: int
    line: int
    at: datetime
    source: Source
    level: str | UnsetType = UNSET
    text: str
    left_out: int | UnsetType = UNSET


class LogsView(msgspec.Struct, kw_only=True):
    """A page of lines. The next page begins at `cursor`; with `more`, it has lines already.

    `status` and `attempts` (their number) were read before the lines, so a final job has no later lines.
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
    """A schedule. `next_at` is null while the schedule is paused; `fires` are its last ticks, newest first."""

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
    """A schedule, for a caller that may change it and not read its job."""

    name: str
    next_at: datetime | None
    paused_at: datetime | UnsetType = UNSET
    paused_by: str | UnsetType = UNSET
    created_at: datetime
    changed_at: datetime


class NextFires(msgspec.Struct, kw_only=True):
    """The coming ticks of a schedule, with the offset of its zone. While it is paused: the ticks that it would have."""

    name: str
    tz: str
    paused: bool
    fires: list[datetime]


class Removed(msgspec.Struct, kw_only=True):
    """A schedule that was removed."""

    name: str
    removed: Literal[True] = True


class ProblemView(msgspec.Struct, kw_only=True):
    """A problem document (RFC 9457)."""

    type: str | UnsetType = UNSET
    title: str
    status: int
    detail: str
    errors: list[FieldError] | UnsetType = UNSET
    outcome_unknown: bool | UnsetType = UNSET
    job_status: str | UnsetType = UNSET
