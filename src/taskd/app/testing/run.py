"""The record of one attempt in a bench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from taskd.app.testing.recorded_jobs import Child
from taskd.domain.errors import Snooze


@dataclass
class Run:
    """The record of one attempt: the exception of its task (`error`), all its progress, the last checkpoint that it stored."""

    error: Exception | None = None
    progress: list[tuple[float, str]] = field(default_factory=list)
    checkpoint: Any = None
    children: list[Child] = field(default_factory=list)
    value: Any = None
    #: Called with each progress at once, if it is given.
    hear: Callable[[float, str], None] | None = None

    @property
    def outcome(self) -> str:
        """One of completed, failed and snoozed."""
        return "completed" if self.error is None else "snoozed" if isinstance(self.error, Snooze) else "failed"

    @property
    def result(self) -> Any:
        """The result as a handle would give it. Raises the task's exception."""
        if self.error is not None:
            raise self.error
        return self.value
