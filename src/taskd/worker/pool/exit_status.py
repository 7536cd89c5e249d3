"""What an executor's end, or its word, means for the attempts that it had."""

from __future__ import annotations

import contextlib
import signal
from datetime import datetime

from msgspec import Raw

from taskd.domain.outcome import Completed, Crashed, Failed, Outcome, Released, Snoozed, TimedOut
from taskd.worker.pool.process import ExecutorProcess
from taskd.worker.pool.protocol import End, EndKind

#: What is likely to be behind a signal.
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


def fate(status: int, oom_kills: int = 0) -> str:
    """What became of a process, in words: `status` is its exit status, or -n for signal n.

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
            "out of memory: the kernel counts a kill for that" if oom_kills else "out of memory? Or somebody's kill -9"
        )
    return f"was killed by {name}{f' ({likely})' if likely else ''}"


def oom_kills() -> int:
    """How many processes the kernel says it has killed because memory ran out; 0 where it does not say."""
    for path in OOM_COUNTS:
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    return 0


def verdict_on(child: ExecutorProcess, status: int, guarded: bool, killed: int = 0) -> Crashed | Released:
    """How an executor's end counts for the attempts that it had."""
    if status == -signal.SIGKILL and guarded:
        return Released("lease ran out")
    if status == -signal.SIGKILL and child.doom is not None:
        return Released(child.doom)
    if status == -signal.SIGKILL and child.unheard:
        return Crashed("the executor process broke its connection to the worker and was killed")
    return Crashed(f"the executor process {fate(status, killed)} while the task ran")


def text_of(outcome: Crashed | Released) -> str:
    """Why, for the log."""
    return outcome.error if isinstance(outcome, Crashed) else outcome.reason


def outcome_of(end: End, stopping: Outcome | None) -> Outcome:
    """What an executor told of an attempt; `stopping` is what it was asked to end as, if it was."""
    match end.how:
        case EndKind.COMPLETED:
            return Completed(Raw(end.data))
        case EndKind.RECORDED:
            return Completed(Raw(b"null"), recorded=True)
        case EndKind.STOPPED:
            if isinstance(stopping, TimedOut):
                return TimedOut(stopping.after, _traceback(end))
            return stopping or Released("the task was stopped")
        case EndKind.SNOOZED:
            return Snoozed(end.again if isinstance(end.again, float) else 0.0, end.data.decode())
        case how:
            again_at = end.again if isinstance(end.again, datetime) else None
            permanent = how is EndKind.FAILED_FOR_GOOD
            return Failed(end.data.decode(), permanent=permanent, again_at=again_at, traceback=_traceback(end))


def _traceback(end: End) -> str | None:
    return end.traceback.decode() if end.traceback else None
