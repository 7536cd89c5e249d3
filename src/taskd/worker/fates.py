"""What an executor's end, or its word, means for the attempts that it had."""

from __future__ import annotations

import signal
from datetime import datetime

from msgspec import Raw

from taskd.domain.outcome import Completed, Crashed, Failed, Outcome, Released, Snoozed
from taskd.worker.child import Child
from taskd.worker.frames import End, How


def fate(status: int) -> str:
    """What became of a process, in words: `status` is its exit status, or -n for signal n."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (out of memory? the kernel's log would say so)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def verdict_on(child: Child, status: int, guarded: bool) -> Crashed | Released:
    """How an executor's end counts for the attempts that it had."""
    if status == -signal.SIGKILL and guarded:
        return Released("lease ran out")
    if status == -signal.SIGKILL and child.doom is not None:
        return Released(child.doom)
    if status == -signal.SIGKILL and child.unheard:
        return Crashed("the executor process broke its connection to the worker and was killed")
    return Crashed(f"the executor process {fate(status)} while the task ran")


def text_of(outcome: Crashed | Released) -> str:
    """Why, for the log."""
    return outcome.error if isinstance(outcome, Crashed) else outcome.reason


def outcome_of(end: End, stopping: Outcome | None) -> Outcome:
    """What an executor told of an attempt; `stopping` is what it was asked to end as, if it was."""
    match end.how:
        case How.COMPLETED:
            return Completed(Raw(end.data))
        case How.RECORDED:
            return Completed(Raw(b"null"), recorded=True)
        case How.STOPPED:
            return stopping or Released("the task was stopped")
        case How.SNOOZED:
            return Snoozed(end.again if isinstance(end.again, float) else 0.0, end.data.decode())
        case how:
            again_at = end.again if isinstance(end.again, datetime) else None
            return Failed(end.data.decode(), permanent=how is How.FAILED_FOR_GOOD, again_at=again_at)
