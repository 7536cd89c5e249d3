"""The asyncio tasks, threads and processes that an attempt starts: they belong to the attempt."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

from taskd.executor.background_threads import BackgroundThread, BackgroundThreads, Share
from taskd.runtime import host, processes

#: Seconds that cancelled tasks may take before that is logged.
PATIENCE = 1.0
#: Processes of one attempt after which those that have ended are forgotten.
MANY = 64

_current: contextvars.ContextVar[TaskScope] = contextvars.ContextVar("task_scope")


class TaskScope:
    """All that the code of one attempt has started, found by the context that it inherits.

    1. Records every asyncio task that the code of an async attempt starts, and those that these start. 2. Cancels them when
    the attempt is over. 3. Waits for the last one. 4. Records the threads (asyncio.to_thread, run_in_executor), which Python
    cannot stop: such a function may run on after its attempt's end. 5. Records the processes, and ends those of a stopped
    attempt.

    A task that is started in a context of its own (`create_task(..., context=contextvars.Context())`) is not recorded. That
    is how attempts can share a connection pool that has tasks of its own.
    """

    __slots__ = ("asynchronous", "folder_changed", "over", "processes", "share", "tasks")

    def __init__(self, *, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self.tasks: set[asyncio.Task[Any]] = set()
        #: The attempt's share of the background threads, made at the first use.
        self.share: Share | None = None
        #: The processes by id, with their start times; made at the first use.
        self.processes: dict[int, int] | None = None
        #: True if the attempt has changed the current folder.
        self.folder_changed = False
        #: True from the attempt's end on: tasks that its code still starts are cancelled at once.
        self.over = False

    def enter(self) -> None:
        """Record all that the code of this context starts from here on."""
        _current.set(self)

    def cancel(self) -> list[str]:
        """Cancel the tasks that are not done; return the names of their coroutines."""
        pending = [task for task in self.tasks if not task.done()]
        for task in pending:
            task.cancel()
        return sorted(_name(task) for task in pending)

    def close(self, background: BackgroundThreads | None, *, stopped: bool) -> int:
        """End the attempt's share of the threads; return how many of its functions still run."""
        if self.share is None or background is None:
            return 0
        return background.close(self.share, stopped=stopped)

    async def end_processes(self, grace: float) -> list[int]:
        """End the processes that still run; return their ids."""
        return await processes.end(self.processes, grace) if self.processes else []

    async def ended(self) -> bool:
        """Wait for all tasks, for at most PATIENCE seconds; return True if none is left."""
        if self.tasks:
            await asyncio.wait(tuple(self.tasks), timeout=PATIENCE)
        return not self.tasks


def create_task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Any,
    context: contextvars.Context | None = None,
    **options: Any,
) -> asyncio.Task[Any]:
    """Create an ordinary task, and record it in the scope of its context. A task factory of asyncio."""
    if context is not None:
        options["context"] = context
        scope = context.get(_current)
    else:
        scope = _current.get(None)
    task = asyncio.Task(coroutine, loop=loop, **options)
    if scope is not None and scope.asynchronous and not task.done():
        scope.tasks.add(task)
        task.add_done_callback(scope.tasks.discard)
        if scope.over:
            task.cancel()
    return task


def share() -> Share | None:
    """Return the share of the threads that the attempt of this context has; None outside of attempts."""
    scope = _current.get(None)
    if scope is None:
        return None
    if scope.share is None:
        scope.share = Share()
    return scope.share


def inherit(thread: threading.Thread) -> None:
    """Record that a thread, which is about to begin, is of the attempt that starts it: a thread inherits no context."""
    if not isinstance(thread, BackgroundThread) and (scope := _starter()) is not None:
        thread.taskd_scope = scope  # type: ignore[attr-defined]  # for `_starter`, when the thread starts a process


def _starter() -> TaskScope | None:
    return _current.get(None) or getattr(threading.current_thread(), "taskd_scope", None)


def process_started(pid: int) -> None:
    """Record that the attempt of this context, or of this thread, has started this process."""
    scope = _starter()
    if scope is None or pid <= 0:
        return
    if scope.processes is None:
        scope.processes = {}
    elif len(scope.processes) % MANY == 0:
        for ended in set(scope.processes).difference(processes.alive(dict(scope.processes))):
            scope.processes.pop(ended, None)
    began = host.started(pid)
    if began >= 0:
        scope.processes[pid] = began


def folder_changed() -> None:
    """Record that the attempt of this context has changed the current folder."""
    scope = _current.get(None)
    if scope is not None:
        scope.folder_changed = True


def _name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return str(getattr(coroutine, "__qualname__", coroutine))
