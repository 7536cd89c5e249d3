"""A distributed task scheduler: applications submit jobs, workers run them as Python functions.

Model: PostgreSQL has the truth about jobs, Redis Streams wake workers, etcd elects leaders. A scheduler stores what is
submitted over HTTP, and the leader of a queue's shard dispatches its due jobs. A worker claims them and runs them in executor
processes, through the author's `App`.

Guarantees: a job that was accepted runs at least once, and exactly one attempt's result is recorded. Every write of a
leader or a worker carries a fence: one that has lost its right changes nothing.

Failures: without PostgreSQL nothing is accepted or dispatched, and results wait. Without Redis nothing is dispatched. Without
etcd there are no locks and no registry of processes, and failover is slower. A failed attempt is retried by the job's policy.

Limits: a task may run more than once, so it should be idempotent. Jobs start by priority and age, not in a strict order.

`docs/architecture.md` follows one job through these packages. The names here are the public API; they are loaded at their
first use, so that `taskd status` does not import what only the author of a task needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from taskd.app import App, Context, Depends, Handle, SyncHandle, Task
    from taskd.client import ClientError, OutcomeUnknown
    from taskd.domain.errors import (
        ClaimLost,
        CoordinatorUnavailable,
        Fail,
        InvalidJob,
        JobCancelled,
        JobFailed,
        RetryAt,
        Snooze,
    )

__all__ = [
    "App",
    "ClaimLost",
    "ClientError",
    "Context",
    "CoordinatorUnavailable",
    "Depends",
    "Fail",
    "Handle",
    "InvalidJob",
    "JobCancelled",
    "JobFailed",
    "OutcomeUnknown",
    "RetryAt",
    "Snooze",
    "SyncHandle",
    "Task",
    "__version__",
]

#: The module of each name that is loaded at its first use.
_LAZY = {
    "App": "taskd.app",
    "Context": "taskd.app",
    "Depends": "taskd.app",
    "Handle": "taskd.app",
    "SyncHandle": "taskd.app",
    "Task": "taskd.app",
    "ClientError": "taskd.client",
    "OutcomeUnknown": "taskd.client",
    "ClaimLost": "taskd.domain.errors",
    "CoordinatorUnavailable": "taskd.domain.errors",
    "Fail": "taskd.domain.errors",
    "InvalidJob": "taskd.domain.errors",
    "JobCancelled": "taskd.domain.errors",
    "JobFailed": "taskd.domain.errors",
    "RetryAt": "taskd.domain.errors",
    "Snooze": "taskd.domain.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'taskd' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
