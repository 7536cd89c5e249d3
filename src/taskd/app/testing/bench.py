"""The bench: runs single attempts of tasks inside a test, without servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from taskd.app.client_pool import standing_in
from taskd.app.context import Context
from taskd.app.task import Task
from taskd.app.testing.bench_context import BenchContext, BenchInvocation
from taskd.app.testing.bench_link import BenchLink, LockTable
from taskd.app.testing.fake_transaction import FakeTransaction
from taskd.app.testing.recorded_jobs import BenchClients, RecordedJobs, by_name
from taskd.app.testing.run import Run
from taskd.app.values import plain
from taskd.domain.job import JobInfo
from taskd.seams import Invocation, Order

Bind = Callable[[bytes, Callable[[], Context]], Invocation]
#: Opens what a task depends on, and gives the function that binds the task to arguments.
OpenTask = Callable[[Task[..., Any]], AbstractAsyncContextManager[Bind]]


class Bench:
    """Runs single attempts of tasks in this process: `(await bench.run(resize, url)).result`, or `run_sync`.

    As in a worker, arguments and results travel as JSON and are checked, middlewares run, and plain functions run in a thread.
    Nothing else happens: no retries, no time-outs, no limits of size.

    Jobs that a task submits are recorded, not run, and their handles answer from that record: no scheduler is asked, whatever
    TASKD_SERVER says, also not by threads that the task starts. A lock excludes only attempts of this bench. Functions for
    on_start run only if the test awaits `app.start()`. The values of providers are opened for each run, unless the test gave
    other values or has awaited `app.start()`. A transaction is a block on the `connection` that the test has given
    (psycopg's, asynchronous for async tasks), and completes no job.
    """

    def __init__(
        self,
        open_task: OpenTask,
        *,
        attempt: int = 1,
        checkpoint: Any = None,
        cancelled: bool = False,
        connection: Any = None,
        results: Mapping[Any, Any] | None = None,
    ) -> None:
        self._open_task = open_task
        self._attempt = attempt
        self._checkpoint = checkpoint
        self._cancelled = cancelled
        self._connection = connection
        self._jobs = RecordedJobs(by_name(results or {}))
        self._locks = LockTable()

    async def run(self, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> Run:
        """Run one attempt with these arguments. Raises TypeError for arguments that a submit refuses."""
        run, payload = Run(), task.arguments.payload(args, kwargs)
        transaction = FakeTransaction(self._connection, task.results)
        try:
            async with self.prepared(task, payload, run, transaction) as invocation:
                value = await (invocation() if invocation.asynchronous else asyncio.to_thread(invocation))
            run.value = task.results.travelled(value)
        except Exception as error:  # noqa: BLE001 - the record has it, whatever the task raises
            run.error = error
        if transaction.completed:  # the attempt ended with the transaction
            run.error, run.value = None, transaction.result
        return run

    def run_sync(self, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> Run:
        """Run one attempt in a test without an event loop: as `run`."""
        return asyncio.run(self.run(task, *args, **kwargs))

    @asynccontextmanager
    async def prepared(
        self, task: Task[..., Any], payload: bytes, run: Run, transaction: FakeTransaction | None = None
    ) -> AsyncIterator[Invocation]:
        """Give an attempt with this payload (JSON), for callers that run it themselves, while its dependencies are open.

        `run` records the calls of its Context.
        """
        clients = BenchClients(self._jobs, run.children)
        link = BenchLink(run, self._locks, transaction or FakeTransaction(self._connection, task.results))
        if self._cancelled:
            link.cancelled.set()
        with standing_in(clients):  # providers may submit too
            async with self._open_task(task) as bind:
                yield self._bound(task, payload, bind, link, clients)

    def _bound(
        self, task: Task[..., Any], payload: bytes, bind: Bind, link: BenchLink, clients: BenchClients
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
        order = Order(job, self._attempt, checkpoint=_json(self._checkpoint))
        return BenchInvocation(bind(payload, lambda: BenchContext(order, link, clients)), clients)


def _json(checkpoint: Any) -> bytes | None:
    return None if checkpoint is None else json.dumps(checkpoint, allow_nan=False, default=plain).encode()
