"""taskd: a distributed task scheduler.

PostgreSQL decides, Redis is a doorbell, etcd says who is alive and who leads, and every write is fenced.
`docs/architecture.md` tells one job's walk through these packages.
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

# Loaded on first use, so that `taskd status` does not pay for what only a task author needs.
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
