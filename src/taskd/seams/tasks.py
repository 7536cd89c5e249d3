"""Tasks: what an executor runs."""

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
        """Tell how far the task is; only the latest counts. Raises ValueError for what is no fraction."""
        ...

    def checkpoint(self, value: Any) -> Future[int]:
        """Store a value for the next attempt; done when it is durable. Raises ValueError for what cannot be stored.

        The future raises ClaimLost if the job is not this attempt's any more, and is cancelled when the attempt is to stop.
        """
        ...

    def lock(self, name: str, wait: float | None) -> tuple[int, Future[int]]:
        """Ask for a lock; the number to let go of it, and its fence once it is held. Raises ValueError for what is no name.

        The future raises TimeoutError after `wait` seconds, CoordinatorUnavailable if etcd is away.
        """
        ...

    def unlock(self, number: int) -> None:
        """Let go of a lock, or wait for it no longer."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """A transaction that completes the attempt's job; gives a psycopg connection. Raises RuntimeError for a second one."""
        ...

    def transaction_sync(self) -> AbstractContextManager[Any]:
        """As `transaction`, for a plain function."""
        ...

    def complete(self, value: Any) -> None:
        """What the result is to be. Raises ValueError for what cannot be stored, RuntimeError outside of a transaction."""
        ...


class Completion(Protocol):
    """How an attempt's own transaction is to complete its job. Both are JSON."""

    @property
    def result(self) -> bytes:
        """What the task gives."""
        ...

    @property
    def progress(self) -> bytes | None:
        """What it has told last of its progress."""
        ...

    def committed(self) -> None:
        """The transaction was committed."""
        ...


class TaskConnections(Protocol):
    """Where an executor's tasks get connections to PostgreSQL for transactions that complete their jobs.

    Where something is raised, nothing was committed: ClaimLost if the job is not the attempt's any more, StoreUnavailable if
    PostgreSQL cannot be reached, the driver's error for what it refuses. A StoreUnavailable with `outcome_unknown` is the
    exception: it has been committed or not, and the job's fence keeps it from being done twice.
    """

    def transaction(self, job_id: int, attempt: int, ending: Completion) -> AbstractAsyncContextManager[Any]:
        """For an async task."""
        ...

    def transaction_sync(self, job_id: int, attempt: int, ending: Completion) -> AbstractContextManager[Any]:
        """For a plain one. `give_up` of what it gives ends what runs on it, from another thread."""
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
        """The tasks there are."""
        ...

    @property
    def timeouts(self) -> Mapping[str, float]:
        """The time-outs (seconds) of the tasks whose definition has one; a job's own comes before it."""
        ...

    def encoder(self, task: str) -> Callable[[Any], bytes] | None:
        """Return what makes JSON of this task's results; None if they need none but Python's own.

        It raises TypeError or ValueError for a result that cannot be stored, with the reason.
        """
        ...

    def plain(self, value: Any) -> Any:
        """Return an object as JSON's own types. Raises TypeError for one that is no JSON."""
        ...

    async def start(self) -> None:
        """What is to be done in an executor before its first attempt. Raises whatever the author's code raises."""
        ...

    async def stop(self) -> None:
        """What is to be done in an executor that ends in good order. Raises nothing."""
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
