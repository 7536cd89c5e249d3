"""Jobs: as a client submits them (JobSpec), and as the store has them (Job, Attempt)."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import msgspec

from taskd.domain.policy import Backoff

MAX_PRIORITY = 100
MAX_RETRIES = 100
MAX_NAME = 255
#: The name of a queue or a task.
NAME = r"^[A-Za-z0-9_.:/\-]+$(?!\n)"
NAME_RULE = f"must be 1 to {MAX_NAME} letters, digits or any of _ . : / -"
MAX_ID = 2**63 - 1

#: A payload or result as JSON text, carried through taskd without being decoded.
Json = msgspec.Raw


def is_name(text: str) -> bool:
    """True if `text` can name a queue or a task."""
    return len(text) <= MAX_NAME and re.match(NAME, text) is not None


class JobStatus(StrEnum):
    """The status of a job. `taskd.domain.lifecycle` has the legal transitions."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True if nothing follows this status."""
        return self in FINAL


FINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})

T = TypeVar("T")

Scalar = str | int | float | bool | None


def _encoded(value: T) -> T:
    """Return a default of a field that is encoded even where it has this default: its column has none."""
    default: T = msgspec.field(default_factory=lambda: value)
    return default


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job as it is submitted, checked and complete. Times in seconds.

    `submit.sql` reads it as JSON, with these names; a field that has its default is left out there.
    """

    payload: Json
    task: str = _encoded("default")
    queue: str = _encoded("default")
    priority: int = _encoded(0)
    dedupe_key: str | None = None
    #: The key that must be unique, where that is not `dedupe_key` itself.
    own_key: str | None = None
    #: A key that is looked up too: a job of this queue that has it is the one that is asked for.
    former_key: str | None = None
    schedule_at: datetime | None = None
    delay: float = 0.0
    max_retries: int = _encoded(3)
    retry_backoff: Backoff = _encoded(Backoff())
    timeout: float | None = None
    metadata: dict[str, Scalar] = {}
    parent_id: int | None = None


class AttemptId(NamedTuple):
    """One attempt of one job. A job's attempts are numbered upwards and never reused."""

    job_id: int
    attempt: int


class JobInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A job as it was when its running attempt began: the part of it that its task sees.

    `timeout` is in seconds, None without one. `failures` counts the attempts before this one that failed, and `max_retries`
    how many may; crashes and lost workers are counted elsewhere. The datetimes are in UTC.
    """

    id: int
    task: str
    queue: str
    priority: int
    payload_json: bytes
    created_at: datetime
    schedule_at: datetime
    timeout: float | None
    metadata: dict[str, Scalar]
    max_retries: int
    failures: int
    worker_id: str

    @property
    def payload(self) -> Any:
        """The whole payload as it came, decoded from its JSON anew at each call: usually a dict with the arguments by name."""
        return msgspec.json.decode(self.payload_json)


class Submitted(msgspec.Struct, frozen=True):
    """The store's answer to one JobSpec: `duplicate` means that `id` names an older job with the same dedupe_key."""

    id: int
    duplicate: bool
    created_at: datetime
    schedule_at: datetime


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run of a job by one worker; `ended_at` and `outcome` are None while it runs.

    `schedule_at` is when it was due, `queued_at` when it was dispatched, `traceback` where it was when it failed. Of snoozed
    ones in a row only the last is kept; `snoozes` is how many they were.
    """

    attempt: int
    worker_id: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: str | None = None
    error: str | None = None
    snoozes: int | None = None
    traceback: str | None = None
    schedule_at: datetime | None = None
    queued_at: datetime | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job as the store knows it; absent values are None. The API renders exactly these fields."""

    id: int
    status: JobStatus
    task: str
    queue: str
    priority: int
    payload: Json
    created_at: datetime
    schedule_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    worker_id: str | None = None
    attempt: int
    max_retries: int
    timeout: float | None = None
    error: str | None = None
    result: Json | None = None
    progress: Json | None = None
    metadata: dict[str, Scalar] | None = None
    dedupe_key: str | None = None
    parent_id: int | None = None
    retried_as: int | None = None
    attempts: list[Attempt] = []


class JobFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The filter of a listing: newest jobs first, with ids lower than `before`, at most `limit`."""

    status: JobStatus | None = None
    queue: str | None = None
    task: str | None = None
    before: int | None = None
    limit: int = 100


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The filter of an export of finished jobs, among the `limit` with the highest ids below `before`."""

    since: datetime | None
    until: datetime | None
    status: JobStatus | None
    queue: str | None
    task: str | None
    before: int
    limit: int


class Page(msgspec.Struct, frozen=True):
    """Jobs of a listing, newest first, and whether there are more; a page may end early, with the job that makes it large."""

    jobs: list[Job]
    more: bool


class Stretch(msgspec.Struct, frozen=True):
    """The wanted jobs of a stretch of history, newest ids first; where the next stretch begins (None: this was the last)."""

    jobs: list[Job]
    next: int | None


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of jobs by status, over the whole cluster; finished ones since the cluster was created."""

    pending: int
    queued: int
    running: int
    completed: int
    failed: int
    cancelled: int
    dispatched: int
    last_dispatch: datetime | None


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """The live jobs of one queue, and the seconds that its oldest due job has waited (None: none is due)."""

    queue: str
    pending: int = 0
    queued: int = 0
    running: int = 0
    oldest: float | None = None


class Depths(msgspec.Struct, frozen=True, kw_only=True):
    """The queues with most live jobs, by name; the number of `left_out` queues, and of the live jobs in those."""

    queues: list[QueueDepth]
    left_out: int = 0
    pending: int = 0
    queued: int = 0
    running: int = 0
