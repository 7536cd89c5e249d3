"""The situation of a job: its state and that of everything it may wait for, at one moment."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from taskd.domain.config import Version
from taskd.domain.fencing import LeaderRow
from taskd.domain.health import Health
from taskd.domain.job import Attempt, JobStatus
from taskd.domain.policy import SUSPECT_AFTER

OK = Health(ok=True, since=0.0)


class Progress(msgspec.Struct, frozen=True):
    """The progress that an attempt reported."""

    attempt: int
    fraction: float
    message: str = ""


class JobSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The job, and `now`, PostgreSQL's time at the look. `last` is the last ended attempt, while the job is live.

    For a running job, `lease` is when its worker's session expires, and `ended_at` when that session ended.
    """

    now: datetime
    id: int
    status: JobStatus
    task: str
    queue: str
    priority: int
    schedule_at: datetime
    queued_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    worker_id: str | None = None
    attempt: int = 0
    dispatch_seq: int = 0
    max_retries: int = 3
    failures: int = 0
    crashes: int = 0
    losses: int = 0
    timeout: float | None = None
    outcome: str | None = None
    error: str | None = None
    last: Attempt | None = None
    progress: Progress | None = None
    retried_as: int | None = None
    lease: datetime | None = None
    ended_at: datetime | None = None

    @property
    def waits(self) -> bool:
        """True if the job has no worker yet."""
        return self.status in (JobStatus.PENDING, JobStatus.QUEUED)

    @property
    def due(self) -> bool:
        """True if the job is due."""
        return self.schedule_at <= self.now

    @property
    def runs_alone(self) -> bool:
        """True if the job shares a worker with no other job, since workers disappeared under it."""
        return self.losses >= SUSPECT_AFTER

    def effective(self, ageing: float) -> int:
        """Return the priority with the points gained by waiting."""
        return self.priority + max(0, int((self.now - self.schedule_at) / timedelta(seconds=ageing)))


class ServingWorker(msgspec.Struct, frozen=True):
    """A worker with a live session that serves the job's queue, and how many attempts it runs."""

    session: UUID
    worker_id: str
    slots: int
    busy: int


class Busy(msgspec.Struct, frozen=True):
    """A job that has a slot."""

    id: int
    task: str
    queue: str
    worker_id: str
    started_at: datetime


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The queue of a waiting job: the workers that serve it, their jobs that have run longest, and the jobs ahead.

    `ahead` counts pending jobs, `rung` queued ones; neither counts further than `bound`. `served_by` is the worker that served
    the queue last, until `served_until`.
    """

    servers: list[ServingWorker] = []
    longest: list[Busy] = []
    ahead: int = 0
    rung: int = 0
    bound: int = 0
    served_by: str | None = None
    served_until: datetime | None = None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as the registry shows it. `rates`: attempts that end per second, by queue."""

    tasks: frozenset[str] = frozenset()
    rates: dict[str, float] = {}
    draining: bool = False


class EntryLocation(msgspec.Struct, frozen=True):
    """The location of a queued job's entry in Redis: with a worker for `idle` seconds, behind `ahead` entries, or gone."""

    gone: bool = False
    worker_id: str | None = None
    idle: float = 0.0
    ahead: int = 0


class Holder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The holder of a lock: a job's attempt, or at least a process."""

    job_id: int | None = None
    attempt: int | None = None
    worker_id: str | None = None
    host: str | None = None
    pid: int | None = None


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings on which reasons and estimates depend, in seconds; by default, the settings' defaults."""

    ageing: float = 60.0
    leader_stale: float = 10.0
    reoffer_after: float = 3.0
    claim_idle: float = 15.0
    lease: float = 15.0
    rate_window: float = 30.0


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """The whole situation of a job.

    `leader` is the row of the job's shard, None if it never had a leader; `line` are the candidates in etcd. `queue` is known
    for waiting jobs, `place` for queued ones while Redis answers, `lock` and `holder` for one that waits for a lock. `set_by`
    are the versions that paused the queue and made workers quiet, by key.
    """

    job: JobSnapshot
    shard: int = 0
    shards: int = 1
    leader: LeaderRow | None = None
    line: tuple[str, ...] = ()
    live: Version = Version()
    set_by: dict[str, Version] = {}
    redis: Health = OK
    etcd: Health = OK
    timings: Timings = Timings()
    queue: Queue | None = None
    seen: dict[UUID, Seen] = {}
    place: EntryLocation | None = None
    lock: str | None = None
    holder: Holder | None = None
    stopping: bool = False

    @property
    def led_by(self) -> str | None:
        """The scheduler that leads the shard, or None."""
        row = self.leader
        alive = row is not None and row.holder is not None and row.age < self.timings.leader_stale
        return row.instance_id if alive and row is not None else None

    @property
    def takers(self) -> list[ServingWorker]:
        """The workers that would take the job if they had a slot."""
        return [worker for worker in self.queue.servers if not self.refuses(worker)] if self.queue else []

    def refuses(self, server: ServingWorker) -> bool:
        """Return True if the worker takes no new jobs."""
        return self.live.quiet(server.worker_id) or self.drains(server)

    def drains(self, server: ServingWorker) -> bool:
        """Return True if the worker is about to end."""
        found = self.seen.get(server.session)
        return self.live.drains(server.worker_id, server.session) or (found is not None and found.draining)

    @property
    def rate(self) -> float | None:
        """Attempts of the queue that end per second; None if that is not known of each worker that takes its jobs."""
        rates = [found.rates.get(self.job.queue) if (found := self.seen.get(t.session)) else None for t in self.takers]
        known = [rate for rate in rates if rate is not None]
        return sum(known) if known and len(known) == len(rates) and self.etcd.ok else None
