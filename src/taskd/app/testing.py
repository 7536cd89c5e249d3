"""Tasks inside a test, without servers."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from taskd.app.context import Context
from taskd.app.handle import Handle, SyncHandle
from taskd.app.recorded import BenchConnection, Child, RecordedJobs, by_name
from taskd.app.rehearsal import Rehearsal
from taskd.app.submitter import Submitter
from taskd.app.task import Task
from taskd.app.values import plain
from taskd.domain.errors import Snooze, Unstorable
from taskd.domain.job import JobInfo
from taskd.domain.storable import plainly, to_json
from taskd.seams import Invocation, Order

Bind = Callable[[bytes, Callable[[], Context]], Invocation]
#: A task's Bind, while what it depends on is open.
Opened = Callable[[Task[Any, Any]], AbstractAsyncContextManager[Bind]]


@dataclass
class Run:
    """What came of one attempt: what it raised (`error`), all the progress that it told, the last checkpoint that it stored."""

    error: Exception | None = None
    progress: list[tuple[float, str]] = field(default_factory=list)
    checkpoint: Any = None
    children: list[Child] = field(default_factory=list)
    value: Any = None
    #: Is told each progress at once, if it is given.
    hear: Callable[[float, str], None] | None = None

    @property
    def outcome(self) -> str:
        """One of completed, failed and snoozed."""
        return "completed" if self.error is None else "snoozed" if isinstance(self.error, Snooze) else "failed"

    @property
    def result(self) -> Any:
        """What a handle's `result` would give. Raises what the task raised."""
        if self.error is not None:
            raise self.error
        return self.value


class Bench:
    """Runs single attempts of tasks in this process: `(await bench.run(resize, url)).result`, or `run_sync`.

    As in a worker, arguments and results travel as JSON and are checked, middlewares run, and plain functions run in a thread.
    Nothing else happens: no retries, no time-outs, no limits of size. Jobs that a task submits are only written down, and their
    handles answer from the bench: no scheduler is asked, whatever TASKD_SERVER says, also not
    by threads that the task starts. A lock excludes only what this bench runs;
    functions given to on_start run if the test awaits `app.start()`. What providers make is opened for each run unless the test
    gave another value, or has awaited `app.start()`. A transaction is a block on the `connection` that the test has given
    (psycopg's, asynchronous for async tasks), and completes no job.
    """

    def __init__(
        self,
        opened: Opened,
        *,
        attempt: int = 1,
        checkpoint: Any = None,
        cancelled: bool = False,
        connection: Any = None,
        results: Mapping[Any, Any] | None = None,
    ) -> None:
        self._opened = opened
        self._attempt = attempt
        self._checkpoint = checkpoint
        self._cancelled = cancelled
        self._connection = connection
        self._jobs = RecordedJobs(by_name(results or {}))
        self._locks = Locks()

    async def run(self, task: Task[Any, Any], /, *args: Any, **kwargs: Any) -> Run:
        """Run one attempt with these arguments. Raises TypeError for those that a submit refuses."""
        run, payload = Run(), task.arguments.payload(args, kwargs)
        rehearsal = Rehearsal(self._connection, task.results)
        try:
            async with self.prepared(task, payload, run, rehearsal) as invocation:
                value = await (invocation() if invocation.asynchronous else asyncio.to_thread(invocation))
            run.value = task.results.travelled(value)
        except Exception as error:  # noqa: BLE001 - whatever the task raises is what came of it
            run.error = error
        if rehearsal.completed:  # nothing that comes after counts
            run.error, run.value = None, rehearsal.result
        return run

    def run_sync(self, task: Task[Any, Any], /, *args: Any, **kwargs: Any) -> Run:
        """As `run`, for tests without an event loop."""
        return asyncio.run(self.run(task, *args, **kwargs))

    @asynccontextmanager
    async def prepared(
        self, task: Task[Any, Any], payload: bytes, run: Run, rehearsal: Rehearsal | None = None
    ) -> AsyncIterator[Invocation]:
        """An attempt with this payload (JSON), for who runs it himself, while what it depends on is open; `run` gets what its
        Context is told."""
        connection = BenchConnection(self._jobs, run.children)
        link = BenchLink(run, self._locks, rehearsal or Rehearsal(self._connection, task.results))
        if self._cancelled:
            link.cancelled.set()
        with connection.standing_in():  # providers may submit too
            async with self._opened(task) as bind:
                yield self._bound(task, payload, bind, link, connection)

    def _bound(
        self, task: Task[Any, Any], payload: bytes, bind: Bind, link: BenchLink, connection: BenchConnection
    ) -> Invocation:
        now = datetime.now(UTC)
        job = JobInfo(
            id=self._jobs.next_id(),
            task=task.name,
            queue=task.queue or "default",
            priority=task.priority or 0,
            payload_json=payload,
            created_at=now,
            schedule_at=now,
            timeout=task.timeout,
            metadata={},
            max_retries=task.max_retries if task.max_retries is not None else 3,
            failures=self._attempt - 1,
            worker_id="testing",
        )
        order = Order(job, self._attempt, checkpoint=_stored(self._checkpoint))
        return BenchInvocation(bind(payload, lambda: BenchContext(order, link, connection)), connection)


def _stored(checkpoint: Any) -> bytes | None:
    return None if checkpoint is None else json.dumps(checkpoint, allow_nan=False, default=plain).encode()


class BenchInvocation:
    """An attempt whose code meets the bench's jobs wherever it submits or asks."""

    def __init__(self, invocation: Invocation, connection: BenchConnection) -> None:
        self.asynchronous = invocation.asynchronous
        self._invocation = invocation
        self._connection = connection

    def __call__(self) -> Any:
        return self._awaited() if self.asynchronous else self._called()

    def _called(self) -> Any:
        with self._connection.standing_in():
            return self._invocation()

    async def _awaited(self) -> Any:
        with self._connection.standing_in():
            return await self._invocation()


class BenchContext(Context):
    """A Context whose child jobs are only written down, also from threads that the task has started by itself."""

    __slots__ = ("_connection",)

    def __init__(self, order: Order, link: BenchLink, connection: BenchConnection) -> None:
        super().__init__(order, lambda: link)
        self._connection = connection

    async def submit(self, task: Submitter[Any], /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Write the job down; its handle answers from the bench."""
        with self._connection.standing_in():
            return await super().submit(task, *args, **kwargs)

    def submit_sync(self, task: Submitter[Any], /, *args: Any, **kwargs: Any) -> SyncHandle[Any]:
        """As `submit`."""
        with self._connection.standing_in():
            return super().submit_sync(task, *args, **kwargs)

    async def submit_in(self, connection: Any, task: Submitter[Any], /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """As `submit`: nothing is stored on the connection."""
        return await self.submit(task, *args, **kwargs)

    def submit_in_sync(self, connection: Any, task: Submitter[Any], /, *args: Any, **kwargs: Any) -> SyncHandle[Any]:
        """As `submit_in`."""
        return self.submit_sync(task, *args, **kwargs)


class Locks:
    """The names that are locked in one bench."""

    def __init__(self) -> None:
        self.holders: dict[str, int] = {}
        self.fences = itertools.count(1)
        self.guard = threading.Lock()


class BenchLink:
    """Implements `taskd.seams.Link` by writing down what it is told."""

    def __init__(self, run: Run, locks: Locks, rehearsal: Rehearsal) -> None:
        self.cancelled = threading.Event()
        self._rehearsal = rehearsal
        self._run = run
        self._locks = locks

    def progress(self, fraction: float, message: str) -> None:
        """Write it down. Raises Unstorable as in a worker."""
        if not 0 <= fraction <= 1:
            raise Unstorable(f"progress is a number from 0 to 1, not {fraction!r}")
        self._run.progress.append((fraction, message))
        if self._run.hear is not None:
            self._run.hear(fraction, message)

    def checkpoint(self, value: Any) -> Future[int]:
        """Keep it, as it comes back from JSON. Raises Unstorable for what is none."""
        self._run.checkpoint = json.loads(to_json(value, sys.maxsize, "the checkpoint", plainly(plain)))
        stored = Future[int]()
        stored.set_result(0)
        return stored

    def lock(self, name: str, wait: float | None) -> tuple[int, Future[int]]:
        """Grant it, or raise TimeoutError at once if it is held: nobody in a test is worth waiting for."""
        if not name:
            raise ValueError("a lock needs a name")
        granted = Future[int]()
        with self._locks.guard:
            fence = next(self._locks.fences)
            if name in self._locks.holders:
                granted.set_exception(TimeoutError(f"the lock {name!r} is held by another attempt of this bench"))
            else:
                self._locks.holders[name] = fence
                granted.set_result(fence)
        return fence, granted

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A block on the test's connection."""
        return self._rehearsal.transaction()

    def transaction_sync(self) -> AbstractContextManager[Any]:
        """A block on the test's connection."""
        return self._rehearsal.transaction_sync()

    def complete(self, value: Any) -> None:
        """Write it down."""
        self._rehearsal.complete(value)

    def unlock(self, number: int) -> None:
        """Let go of it."""
        with self._locks.guard:
            self._locks.holders = {name: fence for name, fence in self._locks.holders.items() if fence != number}
