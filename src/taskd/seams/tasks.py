"""The seams of an executor: the tasks that it runs, and the means that it gives to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

import msgspec

from taskd.domain.job import AttemptId, JobInfo


class Link(Protocol):
    """A running attempt's link to its worker. Any thread may use it."""

    @property
    def cancelled(self) -> threading.Event:
        """Set when the attempt is to stop."""
        ...

    def progress(self, fraction: float, message: str) -> None:
        """Report the progress of the task; only the latest counts. Raises ValueError for a number that is no fraction."""
        ...

    def checkpoint(self, value: Any) -> Future[int]:
        """Store a value for the next attempt; done when it is durable. Raises ValueError for a value that cannot be stored.

        The future raises ClaimLost if the job is not this attempt's any more, and is cancelled when the attempt is to stop.
        """
        ...

    def lock(self, name: str, wait: float | None) -> tuple[int, Future[int]]:
        """Ask for a lock. Return a number to release it by, and a future of its fence. Raises ValueError for an invalid name.

        The future raises TimeoutError after `wait` seconds, CoordinatorUnavailable if etcd is away.
        """
        ...

    def unlock(self, number: int) -> None:
        """Release a lock, or stop waiting for it."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction that completes the attempt's job, on a connection of psycopg. Raises RuntimeError for a second."""
        ...

    def transaction_sync(self) -> AbstractContextManager[Any]:
        """Open the transaction for a plain function: as `transaction`."""
        ...

    def complete(self, value: Any) -> None:
        """Set the result. Raises ValueError for a value that cannot be stored, RuntimeError outside of a transaction."""
        ...


class Completion(Protocol):
    """The values with which an attempt's own transaction completes its job. Both are JSON."""

    @property
    def result(self) -> bytes:
        """The task's result."""
        ...

    @property
    def progress(self) -> bytes | None:
        """The attempt's latest progress."""
        ...

    def committed(self) -> None:
        """Note that the transaction was committed."""
        ...


class TaskConnections(Protocol):
    """The connections to PostgreSQL of an executor's tasks, for transactions that complete their jobs.

    Where something is raised, nothing was committed: ClaimLost if the job is not the attempt's any more, StoreUnavailable if
    PostgreSQL cannot be reached, the driver's error for a statement that is refused. The exception is a StoreUnavailable with
    `outcome_unknown`: the transaction may have been committed, and the job's fence keeps it from being done twice.
    """

    def transaction(self, job_id: int, attempt: int, ending: Completion) -> AbstractAsyncContextManager[Any]:
        """Open the transaction of an async task."""
        ...

    def transaction_sync(self, job_id: int, attempt: int, ending: Completion) -> AbstractContextManager[Any]:
        """Open the transaction of a plain task. `give_up` of the connection ends its statement, from another thread."""
        ...


class Invocation(Protocol):
    """One attempt, ready to run: arguments checked, context bound."""

    asynchronous: bool

    def __call__(self) -> Any:
        """Run the task: a coroutine if `asynchronous`, else the result itself (call it in a thread)."""
        ...


class TaskRegistry(Protocol):
    """A task author's App, as the executor needs it."""

    @property
    def names(self) -> Collection[str]:
        """The names of the tasks."""
        ...

    @property
    def timeouts(self) -> Mapping[str, float]:
        """The time-outs (seconds) of the tasks whose definition has one; a job's own comes before it."""
        ...

    def encoder(self, task: str) -> Callable[[Any], bytes] | None:
        """Return the JSON encoder of this task's results; None if Python's own will do.

        It raises TypeError or ValueError for a result that cannot be stored, with the reason.
        """
        ...

    def plain(self, value: Any) -> Any:
        """Return an object as JSON's own types. Raises TypeError for one that is no JSON."""
        ...

    async def start(self) -> None:
        """Run the start hooks, before the first attempt of an executor. Raises whatever the author's code raises."""
        ...

    async def stop(self) -> None:
        """Run the stop hooks, when an executor ends in good order. Raises nothing."""
        ...

    def prepare(self, order: Order, link: Callable[[], Link]) -> Invocation:
        """Bind the order to its task; `link` gives the attempt's link to its worker.

        Raises LookupError for an unknown task, Fail for a payload that does not fit.
        """
        ...


class Order(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One attempt for an executor to run: everything that `ctx.job` and `ctx.attempt` show."""

    job: JobInfo
    attempt: int
    #: The job was running when an executor crashed. It runs in a process of its own now, so that a further crash is its own.
    suspect: bool = False
    #: The last checkpoint of the job's earlier attempts (JSON).
    checkpoint: bytes | None = None

    @property
    def job_id(self) -> int:
        """The job's id."""
        return self.job.id

    @property
    def attempt_id(self) -> AttemptId:
        """The attempt's identity."""
        return AttemptId(self.job.id, self.attempt)
