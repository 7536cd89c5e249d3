"""What a running task is told about its job."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

import msgspec

from taskd.app.lock import HeldLock, lock, lock_sync
from taskd.app.submitting import Within
from taskd.app.values import decoded, obstacle
from taskd.domain.job import JobInfo
from taskd.runtime.log import logger
from taskd.seams import Link, Order

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection

    from taskd.app.handle import Handle, SyncHandle
    from taskd.app.submitter import Submitter

S = ParamSpec("S")
T = TypeVar("T")


RunningJob = JobInfo


class Context(Within):
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

        An async function needs no look at it: asyncio.CancelledError is raised in it. A plain one that has looked at it gets
        half of the worker's `stop_grace` (2 seconds by default) to return by itself, before an exception is raised in it.
        """
        return self._link().cancelled

    async def progress(self, fraction: float, message: str = "") -> None:
        """Show how far the task is: `fraction` from 0 to 1, and a few words. Only the latest counts.

        It is sent about once a second and waits for nothing. Raises ValueError for what is no fraction.
        """
        self._link().progress(fraction, message)

    def progress_sync(self, fraction: float, message: str = "") -> None:
        """As `progress`, for plain functions in threads."""
        self._link().progress(fraction, message)

    @property
    def checkpoint_value(self) -> Any:
        """What an earlier attempt of this job gave to `checkpoint` last, decoded anew at each call; None if none has."""
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

        It is JSON, or what an argument may be, such as a dataclass or a date: `checkpoint_as` gives that back as its type.

        At most `worker.max_result_bytes` (1 MiB by default); the last one counts, and it goes when the job ends.

        Raises ValueError for what is no JSON or too large (which fails the job for good if the task lets it pass), ClaimLost if
        the job is not this attempt's any more. While PostgreSQL is away it waits.
        """
        await asyncio.wrap_future(self._link().checkpoint(value))

    def checkpoint_sync(self, value: Any) -> None:
        """As `checkpoint`, for plain functions in threads."""
        _not_on_a_loop("checkpoint")
        self._link().checkpoint(value).result()

    def lock(self, name: str, *, wait: float | None = None) -> AbstractAsyncContextManager[HeldLock]:
        """Hold the lock of this name in the whole cluster: `async with ctx.lock("printer") as held:`; `held.fence` goes up.

        Raises TimeoutError if it is not free within `wait` seconds (None: waits for ever), CoordinatorUnavailable if etcd is
        away. Should the lock be lost while it is held, the attempt is stopped and its job runs again.
        """
        return lock(self._link(), name, wait)

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection[Any]]:
        """A transaction in PostgreSQL that completes this job: `async with ctx.transaction() as conn:` (psycopg's connection).

        What the block writes and the job's end are committed together when it ends, or both are not. Give the result by
        `ctx.complete`, in the block; what the function returns later is not kept. An exception in the block rolls back.

        Raises ClaimLost, and has rolled back, if the job is not this attempt's any more. Raises RuntimeError for a second one.
        """
        return self._link().transaction()

    def transaction_sync(self) -> AbstractContextManager[Connection[Any]]:
        """As `transaction`, for plain functions in threads: `with ctx.transaction_sync() as conn:`."""
        _not_on_a_loop("transaction")
        return self._link().transaction_sync()

    def complete(self, result: Any) -> None:
        """In a block of `transaction`: what the job's result is to be (JSON; without this it is null). The last one counts.

        Raises ValueError for what is no JSON or too large, which fails the job for good if the task lets it pass.
        """
        self._link().complete(result)

    def lock_sync(self, name: str, *, wait: float | None = None) -> AbstractContextManager[HeldLock]:
        """As `lock`, for plain functions in threads: `with ctx.lock_sync("printer") as held:`."""
        _not_on_a_loop("lock")
        return lock_sync(self._link(), name, wait)

    @overload
    async def submit(
        self,
        task: Submitter[Callable[Concatenate[Context, S], Coroutine[Any, Any, T]]],
        /,
        *args: S.args,
        **kwargs: S.kwargs,
    ) -> Handle[T]: ...
    @overload
    async def submit(
        self, task: Submitter[Callable[Concatenate[Context, S], T]], /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...
    @overload
    async def submit(
        self, task: Submitter[Callable[S, Coroutine[Any, Any, T]]], /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...
    @overload
    async def submit(self, task: Submitter[Callable[S, T]], /, *args: S.args, **kwargs: S.kwargs) -> Handle[T]: ...

    async def submit(self, task: Submitter[Any], /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Submit a job that has this one as its parent: `await ctx.submit(resize, url)`, or with `resize.options(…)`.

        Gives the new job's handle. An attempt that runs again submits again; options(dedupe_key=…) makes one job of both.

        Raises as `Task.submit` does: TypeError for arguments that do not fit, ClientError if no scheduler takes the job.
        """
        return await task.child_of(self._order.job_id).submit(*args, **kwargs)

    @overload
    def submit_sync(
        self,
        task: Submitter[Callable[Concatenate[Context, S], Coroutine[Any, Any, T]]],
        /,
        *args: S.args,
        **kwargs: S.kwargs,
    ) -> SyncHandle[T]: ...
    @overload
    def submit_sync(
        self, task: Submitter[Callable[Concatenate[Context, S], T]], /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...
    @overload
    def submit_sync(
        self, task: Submitter[Callable[S, Coroutine[Any, Any, T]]], /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...
    @overload
    def submit_sync(self, task: Submitter[Callable[S, T]], /, *args: S.args, **kwargs: S.kwargs) -> SyncHandle[T]: ...

    def submit_sync(self, task: Submitter[Any], /, *args: Any, **kwargs: Any) -> SyncHandle[Any]:
        """As `submit`, for plain functions."""
        return task.child_of(self._order.job_id).submit_sync(*args, **kwargs)

    def _maker(self, task: Submitter[Any]) -> Submitter[Any]:
        return task.child_of(self._order.job_id)


def _not_on_a_loop(name: str) -> None:
    """Raise RuntimeError on an event loop, which would wait for itself."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"ctx.{name}_sync is for plain functions: an async one uses ctx.{name}")
