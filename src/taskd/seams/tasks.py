"""Tasks: what an executor runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec


class Invocation(Protocol):
    """One attempt, ready to run: arguments checked, context bound."""

    asynchronous: bool

    def __call__(self) -> Any:
        """Run the task: a coroutine if `asynchronous`, else the result itself (call it in a thread)."""
        ...


class Tasks(Protocol):
    """A task author's App, as the executor needs it."""

    @property
    def names(self) -> Collection[str]:
        """The tasks there are."""
        ...

    @property
    def timeouts(self) -> Mapping[str, float]:
        """The time-outs (seconds) of the tasks whose definition has one; a job's own comes before it."""
        ...

    def prepare(self, order: Order) -> Invocation:
        """Bind the order to its task. Raises LookupError for an unknown task, Fail for a payload that does not fit."""
        ...


class Order(msgspec.Struct, frozen=True, array_like=True):
    """What a worker tells an executor about one attempt: everything `ctx.job` and `ctx.attempt` show."""

    job_id: int
    attempt: int
    task: str
    queue: str
    priority: int
    payload: bytes
    created_at: datetime
    schedule_at: datetime
    timeout: float | None
    metadata: dict[str, str | int | float | bool | None]
    max_retries: int
    failures: int
    worker_id: str
    #: It was there when an executor crashed: it runs without neighbours now, so that the next crash shows whose fault it is.
    suspect: bool = False
