"""The methods by which a task, or a task with options, submits jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypedDict, TypeVar, overload

from taskd.app.context import Context
from taskd.app.handle import Handle, SyncHandle
from taskd.app.job_factory import JobFactory, Signature, send, send_in, send_in_sync, send_sync
from taskd.app.transactional import store, store_sync
from taskd.domain.errors import InvalidJob
from taskd.domain.job import Scalar
from taskd.domain.submission import refusal

P = ParamSpec("P")
S = ParamSpec("S")
T = TypeVar("T")


class RetryBackoff(TypedDict, total=False):
    """After failure n a job waits `initial * factor ** (n - 1)` seconds, at most `max`; with `jitter`, half to all of that.

    The defaults are 1, 2, 3600 and True.
    """

    initial: float
    factor: float
    max: float
    jitter: bool


class Submitter(JobFactory[P, T]):
    """Submits jobs. Its methods take the parameters of the task's function, without the Context.

    Arguments are checked before anything is sent: TypeError names the one that does not fit. A job that the schedulers refuse
    raises `taskd.InvalidJob`, with the field in its message. A request without an answer is repeated for a few seconds, with a
    key, so that it makes no second job. Then `taskd.ClientError` says why; its `status` is None if no scheduler answered. The
    methods with `_sync` block; threads may share them.
    """

    def options(
        self,
        *,
        queue: str | None = None,
        priority: int | None = None,
        delay: float | None = None,
        schedule_at: datetime | None = None,
        dedupe_key: str | None = None,
        max_retries: int | None = None,
        retry_backoff: RetryBackoff | None = None,
        timeout: float | None = None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Submitter[P, T]:
        """Return a submitter with these options instead of the task's own; None leaves an option as it is. Nothing is sent.

        They are the fields of POST /jobs. `priority` is from 0 to 100, the higher one first. `delay` (from now) and `timeout`
        (of one attempt) are in seconds; `schedule_at` has a time zone and replaces `delay`. A `dedupe_key` has one job: a
        second submit gives the handle of the first. `metadata` is a flat mapping to texts, numbers and booleans, which is kept
        and shown.

        Raises InvalidJob (a ValueError), naming the field, for an invalid option.
        """
        given = {
            "queue": queue,
            "priority": priority,
            "delay": delay,
            "schedule_at": schedule_at,
            "dedupe_key": dedupe_key,
            "max_retries": max_retries,
            "retry_backoff": retry_backoff,
            "timeout": timeout,
            "metadata": metadata,
        }
        new = {name: value for name, value in given.items() if value is not None}
        earlier = {name: value for name, value in self._options.items() if not (name in _TIMES and _TIMES & new.keys())}
        options = earlier | new
        if (wrong := refusal(options)) is not None:
            raise InvalidJob(str(wrong))
        return Submitter(self._target, options)

    # Type checkers take the first overload for functions whose first parameter is the Context. The order matters.
    @overload
    async def submit(
        self: Signature[Callable[Concatenate[Context, S], T]], /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...
    @overload
    async def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Handle[T]: ...

    async def submit(self, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Submit one job with these arguments. Return its handle once PostgreSQL has the job on its disk.

        Raises TypeError for arguments that do not fit, InvalidJob for a job that is refused, ClientError without an answer.
        """
        return await send(self, args, kwargs)

    @overload
    def submit_sync(
        self: Signature[Callable[Concatenate[Context, S], T]], /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...
    @overload
    def submit_sync(self, /, *args: P.args, **kwargs: P.kwargs) -> SyncHandle[T]: ...

    def submit_sync(self, /, *args: Any, **kwargs: Any) -> SyncHandle[Any]:
        """Submit one job, from code without an event loop: as `submit`."""
        return send_sync(self, args, kwargs)

    async def submit_many(self, jobs: Iterable[Mapping[str, Any]], /) -> list[Handle[T]]:
        """Submit a job for each mapping of keyword arguments in one request: all are stored, or none. Handles in their order.

        At most 10,000 jobs and 16 MiB, unless the schedulers are set up otherwise.

        Raises ValueError with a dedupe_key, otherwise as `submit` does.
        """
        request = self._batch(jobs)
        response = await self._target.clients.asynchronous.ask(request) if request else _NO_JOBS
        return [self._target.handle(job_id) for job_id in response["ids"]]

    def submit_many_sync(self, jobs: Iterable[Mapping[str, Any]], /) -> list[SyncHandle[T]]:
        """Submit many jobs, from code without an event loop: as `submit_many`."""
        request = self._batch(jobs)
        response = self._target.clients.blocking.ask(request) if request else _NO_JOBS
        return [self._target.handle_sync(job_id) for job_id in response["ids"]]

    @overload
    async def submit_in(
        self: Signature[Callable[Concatenate[Context, S], T]], connection: Any, /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...
    @overload
    async def submit_in(self, connection: Any, /, *args: P.args, **kwargs: P.kwargs) -> Handle[T]: ...

    async def submit_in(self, connection: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Submit one job on a connection of your own: it exists if and only if the transaction there commits.

        It is psycopg's AsyncConnection, or SQLAlchemy's AsyncConnection or AsyncSession, to the database that taskd is in.
        Raises `taskd.InvalidJob` for an invalid option, after which PostgreSQL wants a rollback, as after any error.
        """
        return await send_in(connection, self, args, kwargs)

    @overload
    def submit_in_sync(
        self: Signature[Callable[Concatenate[Context, S], T]], connection: Any, /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...
    @overload
    def submit_in_sync(self, connection: Any, /, *args: P.args, **kwargs: P.kwargs) -> SyncHandle[T]: ...

    def submit_in_sync(self, connection: Any, /, *args: Any, **kwargs: Any) -> SyncHandle[Any]:
        """Submit as `submit_in`, on a connection that blocks: psycopg's, SQLAlchemy's (or a Session), Django's."""
        return send_in_sync(connection, self, args, kwargs)

    async def submit_many_in(self, connection: Any, jobs: Iterable[Mapping[str, Any]], /) -> list[Handle[T]]:
        """Submit a job for each mapping of keyword arguments in one statement: as `submit_in`. ValueError with a dedupe_key."""
        documents = self._documents(jobs)
        return [self._target.handle(job_id) for job_id in (await store(connection, documents) if documents else ())]

    def submit_many_in_sync(self, connection: Any, jobs: Iterable[Mapping[str, Any]], /) -> list[SyncHandle[T]]:
        """Submit as `submit_many_in`, on a connection that blocks."""
        documents = self._documents(jobs)
        return [self._target.handle_sync(job_id) for job_id in (store_sync(connection, documents) if documents else ())]

    def handle(self, job_id: int, /) -> Handle[T]:
        """Return the handle of a job of this task that was submitted before, by its id. Nothing is sent."""
        return self._target.handle(job_id)

    def handle_sync(self, job_id: int, /) -> SyncHandle[T]:
        """Return the handle of an earlier job, for code without an event loop."""
        return self._target.handle_sync(job_id)


#: Each replaces the other.
_TIMES = {"delay", "schedule_at"}
_NO_JOBS: dict[str, list[int]] = {"ids": []}
