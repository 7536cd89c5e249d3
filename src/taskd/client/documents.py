"""Types of the jobs in the API's responses. Times are texts in UTC: 2026-11-23T13:29:09.629708Z."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

Status = Literal["pending", "queued", "running", "completed", "failed", "cancelled"]
Scalar = str | int | float | bool | None


class AttemptDocument(TypedDict):
    """One attempt of a job. `outcome` and `ended_at` are absent while it runs."""

    attempt: int
    worker_id: str
    started_at: str
    schedule_at: NotRequired[str]
    queued_at: NotRequired[str]
    ended_at: NotRequired[str]
    outcome: NotRequired[
        Literal["completed", "failed", "timed_out", "crashed", "released", "snoozed", "lost", "cancelled"]
    ]
    error: NotRequired[str]
    traceback: NotRequired[str]
    snoozes: NotRequired[int]


class ProgressDocument(TypedDict):
    """The progress that a task reported last: a fraction from 0 to 1."""

    attempt: int
    fraction: float
    message: NotRequired[str]


class StageDocument(TypedDict):
    """A period that a job spent in one state. `until` is absent while it lasts."""

    state: Literal["pending", "queued", "running"]
    since: str
    seconds: float
    why: str
    until: NotRequired[str]
    attempt: NotRequired[int]


class JobDocument(TypedDict):
    """A job as GET /jobs/{id} shows it. A field without a value is absent: read it with `get`."""

    id: int
    status: Status
    task: str
    queue: str
    priority: int
    payload: Any
    created_at: str
    attempt: int
    max_retries: int
    attempts: list[AttemptDocument]
    schedule_at: NotRequired[str]
    queued_at: NotRequired[str]
    started_at: NotRequired[str]
    completed_at: NotRequired[str]
    worker_id: NotRequired[str]
    timeout: NotRequired[float]
    error: NotRequired[str]
    result: NotRequired[Any]
    progress: NotRequired[ProgressDocument]
    metadata: NotRequired[dict[str, Scalar]]
    dedupe_key: NotRequired[str]
    parent_id: NotRequired[int]
    retried_as: NotRequired[int]
    timeline: NotRequired[list[StageDocument]]
