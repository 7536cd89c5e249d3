"""The records of a history, each a line of JSON or of the trace.

All times are Unix seconds by one machine's clock.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from taskd.domain.policy import Backoff


class RedisLeft(msgspec.Struct, frozen=True):
    """The numbers of entries and pending entries in Redis at the end."""

    entries: int
    pending: int


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """The run as a whole. `boot_offset` turns CLOCK_BOOTTIME into Unix time. `quiet`: all jobs should have ended."""

    scenario: str = ""
    seed: int | None = None
    session_ttl: float = 15.0
    ageing: float | None = None
    boot_offset: float = 0.0
    healed_at: float | None = None
    load_from: float = 0.0
    load_until: float = 0.0
    quiet: bool = False
    redis: RedisLeft | None = None
    grace: float = 30.0
    cancel_bound: float = 10.0

    def save(self, folder: Path) -> None:
        """Write `meta.json`, last of all: a folder without it is no history."""
        (folder / "meta.json").write_bytes(msgspec.json.encode(self))


class Step(msgspec.Struct, frozen=True, gc=False):
    """One line of a client. `op` is invoke, ok, fail, unknown, cancel, cancel_ok, cancel_late or cancel_unknown."""

    at: float
    op: str
    key: str | None = None
    id: int | None = None
    duplicate: bool | None = None
    task: str | None = None
    kind: str | None = None
    status: int | str | None = None
    detail: str | None = None
    reason: str | None = None


class Fault(msgspec.Struct, frozen=True):
    """One event at a process, a server or a link: a fault, the end of one, or "exit", the end of a process."""

    at: float
    what: str
    target: str = ""
    pid: int | None = None
    until: float | None = None
    status: int | None = None


class Sign(msgspec.Struct, frozen=True, gc=False):
    """One line of a running task; `at` is Unix time. `what`, with its `detail`:

    start, alive, end. lock, held, unlock (name, fence), and believe: the task relies on its lock without checking it.
    resume (attempt, step): the checkpoint that it was given, 0 0 for none. save (step): a checkpoint that it saves; saved
    (step): the save returned. told (fraction): its progress. child (key, id): a job that it submitted. snooze (seconds): its
    Snooze.
    """

    job_id: int
    attempt: int
    what: str
    at: float
    pid: int
    detail: tuple[str, ...] = ()


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of `job_events`. `committed` is its transaction's commit time, if PostgreSQL keeps that."""

    job_id: int
    version: int
    from_status: str | None
    to_status: str
    task: str
    queue: str
    priority: int
    attempt: int
    worker_id: str | None = None
    session_id: str | None = None
    dispatch_seq: int | None = None
    epoch: int | None = None
    failures: int = 0
    crashes: int = 0
    losses: int = 0
    schedule_at: float
    dedupe_key: str | None = None
    by: str
    xid: int
    statement_at: float
    at: float
    committed: float | None = None

    @property
    def move(self) -> tuple[str | None, str]:
        """The old and the new status."""
        return self.from_status, self.to_status

    @property
    def effective_at(self) -> float:
        """The time of its effect: its commit if that is known, else the time at which it was written."""
        return self.at if self.committed is None else self.committed


class TermEvent(msgspec.Struct, frozen=True):
    """A row of `term_events`."""

    epoch: int
    holder: str | None
    instance_id: str
    what: str
    xid: int
    at: float
    shard: int = 0
    shards: int = 1


class SessionEvent(msgspec.Struct, frozen=True):
    """A row of `session_events`."""

    session_id: str
    worker_id: str
    what: str
    expires_at: float
    by: str
    at: float


class OutputEvent(msgspec.Struct, frozen=True, gc=False):
    """A row of `output_events`: a statement that began at `statement_at` stored output of an attempt."""

    job_id: int
    attempt: int
    by: str
    statement_at: float


class ProgressEvent(msgspec.Struct, frozen=True):
    """The last progress of an attempt."""

    attempt: int
    fraction: float
    message: str = ""


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """The final row of a job, live or finished. `schedule` and `fire_at` are from its metadata, which a retry keeps."""

    id: int
    status: str
    task: str
    queue: str
    priority: int
    attempt: int
    worker_id: str | None = None
    failures: int = 0
    crashes: int = 0
    losses: int = 0
    max_retries: int = 0
    backoff: Backoff = Backoff()
    dedupe_key: str | None = None
    schedule_at: float
    created_at: float
    completed_at: float | None = None
    error: str | None = None
    parent_id: int | None = None
    schedule: str | None = None
    fire_at: str | None = None
    progress: ProgressEvent | None = None

    @property
    def tick(self) -> float | None:
        """The tick that the job is for; None without one."""
        try:
            return datetime.fromisoformat(self.fire_at or "").timestamp()
        except ValueError:
            return None


class ScheduleRow(msgspec.Struct, frozen=True, kw_only=True):
    """The final row of a schedule."""

    name: str
    cron: str | None = None
    every: float | None = None
    tz: str = "UTC"
    missed: str = "once"
    catch_up: int = 10
    overlap: str = "allow"
    revision: int = 1
    anchor: float
    decided_until: float
    paused_at: float | None = None
    created_at: float

    @property
    def unchanged(self) -> bool:
        """True if the schedule was never changed, apart from a pause at the end."""
        return self.revision == (1 if self.paused_at is None else 2)


class FireRow(msgspec.Struct, frozen=True, kw_only=True):
    """The final row of a tick, with its result."""

    schedule: str
    fire_at: float
    fired_at: float
    state: str
    job_id: int | None = None
