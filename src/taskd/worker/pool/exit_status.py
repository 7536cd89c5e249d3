"""Outcomes of attempts: from the End that their executor sent, or from the exit of their executor."""

from __future__ import annotations

import contextlib
import signal
from datetime import datetime

from msgspec import Raw

from taskd.domain.outcome import Completed, Crashed, Failed, Outcome, Released, Snoozed, TimedOut
from taskd.worker.pool.process import ExecutorProcess
from taskd.worker.pool.protocol import End, EndKind

#: The likely cause of a signal.
NATIVE = "a fault in native code? The worker's log has the stack"
LIKELY = {
    "SIGSEGV": NATIVE,
    "SIGBUS": NATIVE,
    "SIGFPE": NATIVE,
    "SIGILL": NATIVE,
    "SIGABRT": "native code gave up; the worker's log has the stack",
    "SIGXCPU": "it used more processor time than a limit of the system allows",
}
#: Where the kernel counts the processes that it has killed because memory ran out: of this container, and of the machine.
OOM_COUNTS = ("/sys/fs/cgroup/memory.events", "/proc/vmstat")


def describe_exit(status: int, oom_kills: int = 0) -> str:
    """Return in words how a process ended: `status` is its exit status, or -n for signal n.

    `oom_kills` is how many processes the kernel has killed for lack of memory while it lived.
    """
    if status >= 0:
        return f"exited with status {status} (os._exit, or a library that ends its process)"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    likely = LIKELY.get(name, "")
    if name == "SIGKILL":
        likely = (
            "out of memory: the kernel counts a kill for that" if oom_kills else "out of memory? Or a manual kill -9"
        )
    return f"was killed by {name}{f' ({likely})' if likely else ''}"


def count_oom_kills() -> int:
    """Return how many processes the kernel has killed because memory ran out; 0 where it does not count them."""
    for path in OOM_COUNTS:
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    return 0


def outcome_of_exit(process: ExecutorProcess, status: int, *, guarded: bool, oom_kills: int = 0) -> Crashed | Released:
    """Return the outcome of the attempts that an executor still had at its exit. `guarded`: the guard has killed it."""
    if status == -signal.SIGKILL and guarded:
        return Released("lease ran out")
    if status == -signal.SIGKILL and process.kill_reason is not None:
        return Released(process.kill_reason)
    if status == -signal.SIGKILL and process.killed_disconnected:
        return Crashed("the executor process broke its connection to the worker and was killed")
    return Crashed(f"the executor process {describe_exit(status, oom_kills)} while the task ran")


def reason_of(outcome: Crashed | Released) -> str:
    """Return the reason as the log shows it."""
    return outcome.error if isinstance(outcome, Crashed) else outcome.reason


def outcome_of_end(end: End, stopping: Outcome | None) -> Outcome:
    """Return the outcome of an attempt by its End. `stopping` is the outcome that it was asked to stop with, if any."""
    match end.kind:
        case EndKind.COMPLETED:
            return Completed(Raw(end.data))
        case EndKind.RECORDED:
            return Completed(Raw(b"null"), recorded=True)
        case EndKind.STOPPED:
            if isinstance(stopping, TimedOut):
                return TimedOut(stopping.after, _traceback(end))
            return stopping or Released("the task was stopped")
        case EndKind.SNOOZED:
            return Snoozed(end.next_run if isinstance(end.next_run, float) else 0.0, end.data.decode())
        case kind:
            again_at = end.next_run if isinstance(end.next_run, datetime) else None
            permanent = kind is EndKind.FAILED_FOR_GOOD
            return Failed(end.data.decode(), permanent=permanent, again_at=again_at, traceback=_traceback(end))


def _traceback(end: End) -> str | None:
    return end.traceback.decode() if end.traceback else None
