"""The asyncio tasks, threads and processes that an attempt starts: they belong to it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

from taskd.executor.background_threads import BackgroundThread, BackgroundThreads, Share
from taskd.runtime import host, processes

#: Seconds that cancelled tasks may take before the log tells of them.
PATIENCE = 1.0
#: Processes of one attempt after which those that have ended are forgotten.
MANY = 64

_current: contextvars.ContextVar[TaskScope] = contextvars.ContextVar("offspring")


class TaskScope:
    """What the code of one attempt has started, found by the context that it inherits.

    1. Knows every asyncio task that the code of an async attempt starts, and what those start. 2. Cancels them when the attempt
    is over. 3. Says when the last one has ended. 4. Knows the threads (asyncio.to_thread, run_in_executor), which Python cannot
    stop: such a function may run on after its attempt's end. 5. Knows the processes, and ends those of a stopped attempt.

    A task that is started in a context of its own (`create_task(..., context=contextvars.Context())`) is not known: that is
    how attempts come to share a connection pool with tasks of its own.
    """

    __slots__ = ("asynchronous", "moved", "over", "processes", "share", "tasks")

    def __init__(self, *, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self.tasks: set[asyncio.Task[Any]] = set()
        #: Its share of the threads, made at the first use.
        self.share: Share | None = None
        #: The processes that it has started, by id, with when they began; made at the first use.
        self.processes: dict[int, int] | None = None
        #: True if it has changed the current folder.
        self.moved = False
        #: True from the attempt's end on: what its code still starts is cancelled at once.
        self.over = False

    def adopt(self) -> None:
        """Own what the code of this context starts from here on."""
        _current.set(self)

    def cancel(self) -> list[str]:
        """Cancel what is not done yet; the names of those coroutines."""
        left = [task for task in self.tasks if not task.done()]
        for task in left:
            task.cancel()
        return sorted(_name(task) for task in left)

    def close(self, helpers: BackgroundThreads | None, *, stopped: bool) -> int:
        """The attempt has ended: how many of its functions still run in threads."""
        if self.share is None or helpers is None:
            return 0
        return helpers.close(self.share, stopped=stopped)

    async def end_processes(self, grace: float) -> list[int]:
        """End the processes that still run; their ids."""
        return await processes.end(self.processes, grace) if self.processes else []

    async def ended(self) -> bool:
        """Wait for all of them, for at most PATIENCE seconds; True if none is left."""
        if self.tasks:
            await asyncio.wait(tuple(self.tasks), timeout=PATIENCE)
        return not self.tasks


def start(
    loop: asyncio.AbstractEventLoop,
    coroutine: Any,
    context: contextvars.Context | None = None,
    **options: Any,
) -> asyncio.Task[Any]:
    """A task factory: an ordinary task, known to the attempt whose context it has."""
    if context is not None:
        options["context"] = context
        offspring = context.get(_current)
    else:
        offspring = _current.get(None)
    task = asyncio.Task(coroutine, loop=loop, **options)
    if offspring is not None and offspring.asynchronous and not task.done():
        offspring.tasks.add(task)
        task.add_done_callback(offspring.tasks.discard)
        if offspring.over:
            task.cancel()
    return task


def share() -> Share | None:
    """The share of the threads that the attempt of this context has; None outside of attempts."""
    offspring = _current.get(None)
    if offspring is None:
        return None
    if offspring.share is None:
        offspring.share = Share()
    return offspring.share


def inherit(thread: threading.Thread) -> None:
    """Note that this thread, which is about to begin, is of the attempt that starts it: a thread has no context of that."""
    if not isinstance(thread, BackgroundThread) and (offspring := _starter()) is not None:
        thread.taskd_offspring = offspring  # type: ignore[attr-defined]  # found where a process is started in it


def _starter() -> TaskScope | None:
    return _current.get(None) or getattr(threading.current_thread(), "taskd_offspring", None)


def started(pid: int) -> None:
    """Note that the attempt of this context, or of this thread, has started this process."""
    offspring = _starter()
    if offspring is None or pid <= 0:
        return
    if offspring.processes is None:
        offspring.processes = {}
    elif len(offspring.processes) % MANY == 0:
        for one in set(offspring.processes).difference(processes.alive(dict(offspring.processes))):
            offspring.processes.pop(one, None)
    began = host.started(pid)
    if began >= 0:
        offspring.processes[pid] = began


def moved() -> None:
    """Note that the attempt of this context has changed the current folder."""
    offspring = _current.get(None)
    if offspring is not None:
        offspring.moved = True


def _name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return str(getattr(coroutine, "__qualname__", coroutine))
