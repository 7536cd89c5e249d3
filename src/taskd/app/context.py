"""What a running task is told about its job."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from taskd.runtime.log import logger
from taskd.seams import Order


class RunningJob(msgspec.Struct, frozen=True, kw_only=True):
    """The job that a task runs for. `timeout` is in seconds, `failures` counts the attempts that failed before this one."""

    id: int
    task: str
    queue: str
    priority: int
    created_at: datetime
    schedule_at: datetime
    timeout: float | None
    metadata: dict[str, str | int | float | bool | None]
    max_retries: int
    failures: int
    worker_id: str
    payload_json: bytes

    @property
    def payload(self) -> Any:
        """The whole payload, decoded anew at each call."""
        return msgspec.json.decode(self.payload_json)


class Context:
    """One attempt, as its task sees it: a parameter annotated `Context` (or named `ctx`) receives it."""

    __slots__ = ("_log", "_order")

    def __init__(self, order: Order) -> None:
        self._order = order
        self._log: Any = None

    @property
    def job(self) -> RunningJob:
        """The job's own fields."""
        order = self._order
        return RunningJob(
            id=order.job_id,
            task=order.task,
            queue=order.queue,
            priority=order.priority,
            created_at=order.created_at,
            schedule_at=order.schedule_at,
            timeout=order.timeout,
            metadata=order.metadata,
            max_retries=order.max_retries,
            failures=order.failures,
            worker_id=order.worker_id,
            payload_json=order.payload,
        )

    @property
    def attempt(self) -> int:
        """The number of this attempt: it only ever goes up, so it serves as a fencing token."""
        return self._order.attempt

    @property
    def log(self) -> Any:
        """A structlog logger whose lines carry the job, the attempt and the task."""
        if self._log is None:
            order = self._order
            self._log = logger().bind(job=order.job_id, attempt=order.attempt, task=order.task)
        return self._log
