"""The Context of a running attempt: its job, and what it may ask of its worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

import msgspec

from taskd.app.handle import Handle, SyncHandle
from taskd.app.job_factory import JobFactory, send, send_in, send_in_sync, send_sync
from taskd.app.lock import HeldLock, lock, lock_sync
from taskd.app.values import decoded, obstacle
from taskd.domain.job import JobInfo
from taskd.runtime.log import logger
from taskd.seams import Link, Order

if TYPE_CHECKING:
    # Most executors do without the driver of PostgreSQL.
    from psycopg import AsyncConnection, Connection

S = ParamSpec("S")
T = TypeVar("T")


class TransactionalSubmit:
    """Submits on a connection of the caller's: the part that an App and a Context share."""

    __slots__ = ()

    @overload
    async def submit_in(
        self, connection: Any, task: JobFactory[Concatenate[Context, S], T], /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...
    @overload
    async def submit_in(
        self, connection: Any, task: JobFactory[S, T], /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...

    async def submit_in(self, connection: Any, task: JobFactory[Any, Any], /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Submit as `task.submit_in(connection, …)`. A job that a running task submits has the task's job as its parent."""
        return await send_in(connection, self._factory(task), args, kwargs)

    @overload
    def submit_in_sync(
        self, connection: Any, task: JobFactory[Concatenate[Context, S], T], /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...
    @overload
    def submit_in_sync(
        self, connection: Any, task: JobFactory[S, T], /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...

    def submit_in_sync(
        self, connection: Any, task: JobFactory[Any, Any], /, *args: Any, **kwargs: Any
    ) -> SyncHandle[Any]:
        """Submit as `submit_in`, on a connection that blocks."""
        return send_in_sync(connection, self._factory(task), args, kwargs)

    def _factory(self, task: JobFactory[Any, Any]) -> JobFactory[Any, Any]:
        return task


RunningJob = JobInfo


class Context(TransactionalSubmit):
    """One attempt, as its task sees it: a parameter annotated `Context` (or named `ctx`) receives it."""

    __slots__ = ("_link", "_log", "_order")

    def __init__(self, order: Order, link: Callable[[], Link]) -> None:
        self._order = order
        self._link = link
        self._log: Any = None

    @property
    def job(self) -> JobInfo:
        """The job: its id, its options, its metadata."""
        return self._order.job

    @property
    def attempt(self) -> int:
        """The number of this attempt: it only ever goes up, so it serves as a fencing token."""
        return self._order.attempt

    @property
    def log(self) -> Any:
        """A structlog logger whose lines carry the job, the attempt and the task: `ctx.log.info("resized", width=200)`."""
        if self._log is None:
            order = self._order
            self._log = logger().bind(job=order.job_id, attempt=order.attempt, task=order.job.task)
        return self._log

    @property
    def cancelled(self) -> threading.Event:
        """Set when this attempt is to stop: its job was cancelled, its time is over, or the worker shuts down.

        An async function need not look at it: asyncio.CancelledError is raised in it. A plain function that has looked at it
        gets half of the worker's `stop_grace` (2 seconds by default) to return by itself, before an exception is raised in it.
        """
        return self._link().cancelled

    async def progress(self, fraction: float, message: str = "") -> None:
        """Report the progress of the task: `fraction` from 0 to 1, and a few words. Only the latest counts.

        It is sent about once a second, and the call does not wait for that. Raises ValueError for a number outside 0 to 1.
        """
        self._link().progress(fraction, message)

    def progress_sync(self, fraction: float, message: str = "") -> None:
        """Report progress from a plain function in a thread: as `progress`."""
        self._link().progress(fraction, message)

    @property
    def checkpoint_value(self) -> Any:
        """The last checkpoint of the job's earlier attempts, decoded anew at each call; None if there is none."""
        text = self._order.checkpoint
        return msgspec.json.decode(text) if text is not None else None

    def checkpoint_as(self, kind: type[T]) -> T | None:
        """Return `checkpoint_value` as this type: a dataclass, `list[date]`, whatever an argument's annotation may be.

        Raises TypeError for a type that JSON cannot be read as, and for a checkpoint that does not fit.
        """
        if (reason := obstacle(kind)) is not None:
            raise TypeError(f"a checkpoint cannot be read as this type: {reason}")
        text = self._order.checkpoint
        try:
            return msgspec.json.decode(text, type=kind, dec_hook=decoded) if text is not None else None
        except msgspec.ValidationError as error:
            raise TypeError(f"the checkpoint does not fit: {error}") from None

    async def checkpoint(self, value: Any) -> None:
        """Store `value` for the next attempt, in case there is one; it is durable when this returns.

        It is JSON, or any value that an argument may have, such as a dataclass or a date: `checkpoint_as` returns that as its
        type. At most `worker.max_result_bytes` (1 MiB by default). The last checkpoint counts; it is deleted when the job ends.

        Raises ValueError for a value that is no JSON or too large (which fails the job for good if the task does not catch
        it), ClaimLost if the job is no longer this attempt's. While PostgreSQL is away it waits.
        """
        await asyncio.wrap_future(self._link().checkpoint(value))

    def checkpoint_sync(self, value: Any) -> None:
        """Store a checkpoint from a plain function in a thread: as `checkpoint`."""
        _not_on_a_loop("checkpoint")
        self._link().checkpoint(value).result()

    def lock(self, name: str, *, wait: float | None = None) -> AbstractAsyncContextManager[HeldLock]:
        """Hold the lock of this name in the whole cluster: `async with ctx.lock("printer") as held:`; `held.fence` goes up.

        Raises TimeoutError if it is not free within `wait` seconds (None: waits for ever), CoordinatorUnavailable if etcd is
        away. If the lock is lost while it is held, the attempt is stopped and its job runs again.
        """
        return lock(self._link(), name, wait)

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection[Any]]:
        """Open a transaction in PostgreSQL that completes this job: `async with ctx.transaction() as conn:` (psycopg's).

        The writes of the block and the job's end are committed together when the block ends, or neither is. Give the result
        by `ctx.complete`, in the block; what the function returns later is not kept. An exception in the block rolls back.

        Raises ClaimLost, and has rolled back, if the job is no longer this attempt's. Raises RuntimeError for a second one.
        """
        return self._link().transaction()

    def transaction_sync(self) -> AbstractContextManager[Connection[Any]]:
        """Open a transaction from a plain function in a thread: as `transaction`, `with ctx.transaction_sync() as conn:`."""
        _not_on_a_loop("transaction")
        return self._link().transaction_sync()

    def complete(self, result: Any) -> None:
        """Set the job's result in a block of `transaction` (JSON; without this it is null). The last call counts.

        Raises ValueError for a value that is no JSON or too large, which fails the job for good if the task does not catch it.
        """
        self._link().complete(result)

    def lock_sync(self, name: str, *, wait: float | None = None) -> AbstractContextManager[HeldLock]:
        """Hold a lock in a plain function in a thread: as `lock`, `with ctx.lock_sync("printer") as held:`.

        `wait`: the seconds after which TimeoutError is raised; None: no limit.
        """
        _not_on_a_loop("lock")
        return lock_sync(self._link(), name, wait)

    @overload
    async def submit(
        self, task: JobFactory[Concatenate[Context, S], T], /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...
    @overload
    async def submit(self, task: JobFactory[S, T], /, *args: S.args, **kwargs: S.kwargs) -> Handle[T]: ...

    async def submit(self, task: JobFactory[Any, Any], /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Submit a job that has this one as its parent: `await ctx.submit(resize, url)`, or with `resize.options(…)`.

        Returns the new job's handle. An attempt that runs again submits again; options(dedupe_key=…) makes one job of both.

        Raises as `Task.submit` does: TypeError for arguments that do not fit, ClientError if no scheduler takes the job.
        """
        return await send(self._factory(task), args, kwargs)

    @overload
    def submit_sync(
        self, task: JobFactory[Concatenate[Context, S], T], /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...
    @overload
    def submit_sync(self, task: JobFactory[S, T], /, *args: S.args, **kwargs: S.kwargs) -> SyncHandle[T]: ...

    def submit_sync(self, task: JobFactory[Any, Any], /, *args: Any, **kwargs: Any) -> SyncHandle[Any]:
        """Submit a child job from a plain function: as `submit`."""
        return send_sync(self._factory(task), args, kwargs)

    def _factory(self, task: JobFactory[Any, Any]) -> JobFactory[Any, Any]:
        return task.child_of(self._order.job_id)


def _not_on_a_loop(name: str) -> None:
    """Raise RuntimeError on an event loop, which would wait for itself."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"ctx.{name}_sync is for plain functions: an async one uses ctx.{name}")
