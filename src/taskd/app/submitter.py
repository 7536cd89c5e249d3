"""A submitter: makes jobs of a task, with options of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypedDict, TypeVar, overload

from taskd.app.arguments import Arguments
from taskd.app.connection import Connection
from taskd.app.context import Context
from taskd.app.handle import Handle, SyncHandle
from taskd.app.results import Results
from taskd.app.within import store, store_sync
from taskd.client.requests import ClientRequest, keyed_batch, submission
from taskd.domain.errors import InvalidJob
from taskd.domain.job import Scalar
from taskd.domain.submission import refusal

S = ParamSpec("S")
T = TypeVar("T")
F_co = TypeVar("F_co", covariant=True)


class RetryBackoff(TypedDict, total=False):
    """After failure n a job waits `initial * factor ** (n - 1)` seconds, at most `max`; with `jitter`, half to all of that.

    What is left out is 1, 2, 3600 and True.
    """

    initial: float
    factor: float
    max: float
    jitter: bool


class Target(NamedTuple):
    """What a submitter makes jobs of."""

    task: str
    arguments: Arguments
    results: Results
    connection: Connection

    def handle(self, job_id: int, *, duplicate: bool = False) -> Handle[Any]:
        """The handle of one of its jobs."""
        return Handle(job_id, self.results, self.connection.here, duplicate=duplicate)

    def handle_sync(self, job_id: int, *, duplicate: bool = False) -> SyncHandle[Any]:
        """The same for code without an event loop."""
        return SyncHandle(job_id, self.results, self.connection.here, duplicate=duplicate)


class Submitter(Generic[F_co]):
    """Submits jobs. Its methods take what the task's function takes, without the Context.

    Arguments are checked before anything is sent: TypeError names the one that does not fit. A job that the schedulers refuse
    all the same is `taskd.InvalidJob`, with the field in its message. What is not answered is asked again for a few seconds,
    with a key, so that it makes no second job; then `taskd.ClientError` says why. Its `status` is None if nobody answered. The
    methods with `_sync` block; threads may share them.
    """

    def __init__(self, target: Target, options: dict[str, Any]) -> None:
        self._target = target
        self._options = options

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
    ) -> Submitter[F_co]:
        """A submitter with these options instead of the task's own; None leaves one as it is. Nothing is sent.

        They are the fields of POST /jobs. `priority` is from 0 to 100, the higher one first. `delay` (from now) and `timeout`
        (of one attempt) are in seconds; `schedule_at` has a time zone, and comes instead of `delay`. A `dedupe_key` has one
        job: a second submit gives the handle of the first. `metadata` is a flat mapping to texts, numbers and booleans, which
        is kept and shown.

        Raises InvalidJob (a ValueError), naming the field, for what cannot be.
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

    def child_of(self, job_id: int) -> Submitter[F_co]:
        """A submitter whose jobs name this one as their `parent_id`: what `ctx.submit` uses."""
        return Submitter(self._target, self._options | {"parent_id": job_id})

    def document(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The job that a submit with these arguments would send. Raises as that does."""
        payload = self._target.arguments.payload(tuple(args), kwargs)
        found: dict[str, Any] = json.loads(_document(payload, self._fields()))
        return found

    # Four kinds of functions: with a Context as the first parameter or without, async or plain. The order matters.
    @overload
    async def submit(
        self: Submitter[Callable[Concatenate[Context, S], Coroutine[Any, Any, T]]], /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...
    @overload
    async def submit(
        self: Submitter[Callable[Concatenate[Context, S], T]], /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...
    @overload
    async def submit(
        self: Submitter[Callable[S, Coroutine[Any, Any, T]]], /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...
    @overload
    async def submit(self: Submitter[Callable[S, T]], /, *args: S.args, **kwargs: S.kwargs) -> Handle[T]: ...

    async def submit(self, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Submit one job with these arguments; its handle once PostgreSQL has it on the disk.

        Raises TypeError for arguments that do not fit, InvalidJob for a job that is refused, ClientError without an answer.
        """
        answer = await self._target.connection.asynchronous.ask(self._one(args, kwargs))
        return self._target.handle(answer["id"], duplicate=self._is_older(answer))

    @overload
    def submit_sync(
        self: Submitter[Callable[Concatenate[Context, S], Coroutine[Any, Any, T]]], /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...
    @overload
    def submit_sync(
        self: Submitter[Callable[Concatenate[Context, S], T]], /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...
    @overload
    def submit_sync(
        self: Submitter[Callable[S, Coroutine[Any, Any, T]]], /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...
    @overload
    def submit_sync(self: Submitter[Callable[S, T]], /, *args: S.args, **kwargs: S.kwargs) -> SyncHandle[T]: ...

    def submit_sync(self, /, *args: Any, **kwargs: Any) -> SyncHandle[Any]:
        """As `submit`, for code without an event loop."""
        answer = self._target.connection.blocking.ask(self._one(args, kwargs))
        return self._target.handle_sync(answer["id"], duplicate=self._is_older(answer))

    @overload
    async def submit_many(
        self: Submitter[Callable[..., Coroutine[Any, Any, T]]], jobs: Iterable[Mapping[str, Any]], /
    ) -> list[Handle[T]]: ...
    @overload
    async def submit_many(
        self: Submitter[Callable[..., T]], jobs: Iterable[Mapping[str, Any]], /
    ) -> list[Handle[T]]: ...

    async def submit_many(self, jobs: Iterable[Mapping[str, Any]], /) -> list[Handle[Any]]:
        """Submit a job for each mapping of keyword arguments in one request: all are stored, or none. Handles in their order.

        At most 10,000 jobs and 16 MiB, unless the schedulers are set up otherwise.

        Raises ValueError with a dedupe_key, otherwise as `submit` does.
        """
        request = self._many(jobs)
        answer = await self._target.connection.asynchronous.ask(request) if request else _NOTHING
        return [self._target.handle(job_id) for job_id in answer["ids"]]

    @overload
    def submit_many_sync(
        self: Submitter[Callable[..., Coroutine[Any, Any, T]]], jobs: Iterable[Mapping[str, Any]], /
    ) -> list[SyncHandle[T]]: ...
    @overload
    def submit_many_sync(
        self: Submitter[Callable[..., T]], jobs: Iterable[Mapping[str, Any]], /
    ) -> list[SyncHandle[T]]: ...

    def submit_many_sync(self, jobs: Iterable[Mapping[str, Any]], /) -> list[SyncHandle[Any]]:
        """As `submit_many`, for code without an event loop."""
        request = self._many(jobs)
        answer = self._target.connection.blocking.ask(request) if request else _NOTHING
        return [self._target.handle_sync(job_id) for job_id in answer["ids"]]

    @overload
    async def submit_in(
        self: Submitter[Callable[Concatenate[Context, S], Coroutine[Any, Any, T]]],
        connection: Any,
        /,
        *args: S.args,
        **kwargs: S.kwargs,
    ) -> Handle[T]: ...
    @overload
    async def submit_in(
        self: Submitter[Callable[Concatenate[Context, S], T]], connection: Any, /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...
    @overload
    async def submit_in(
        self: Submitter[Callable[S, Coroutine[Any, Any, T]]], connection: Any, /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...
    @overload
    async def submit_in(
        self: Submitter[Callable[S, T]], connection: Any, /, *args: S.args, **kwargs: S.kwargs
    ) -> Handle[T]: ...

    async def submit_in(self, connection: Any, /, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Submit one job on a connection of your own: it exists if and only if the transaction there commits.

        It is psycopg's AsyncConnection, or SQLAlchemy's AsyncConnection or AsyncSession, to the database that taskd is in.
        Raises `taskd.InvalidJob` for an option that cannot be, after which PostgreSQL wants a rollback, as after any error.
        """
        (job_id,) = await store(connection, [self.template(*args, **kwargs)])
        return self._target.handle(job_id)

    @overload
    def submit_in_sync(
        self: Submitter[Callable[Concatenate[Context, S], Coroutine[Any, Any, T]]],
        connection: Any,
        /,
        *args: S.args,
        **kwargs: S.kwargs,
    ) -> SyncHandle[T]: ...
    @overload
    def submit_in_sync(
        self: Submitter[Callable[Concatenate[Context, S], T]], connection: Any, /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...
    @overload
    def submit_in_sync(
        self: Submitter[Callable[S, Coroutine[Any, Any, T]]], connection: Any, /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...
    @overload
    def submit_in_sync(
        self: Submitter[Callable[S, T]], connection: Any, /, *args: S.args, **kwargs: S.kwargs
    ) -> SyncHandle[T]: ...

    def submit_in_sync(self, connection: Any, /, *args: Any, **kwargs: Any) -> SyncHandle[Any]:
        """As `submit_in`, on a connection that blocks: psycopg's, SQLAlchemy's (or a Session), Django's."""
        (job_id,) = store_sync(connection, [self.template(*args, **kwargs)])
        return self._target.handle_sync(job_id)

    @overload
    async def submit_many_in(
        self: Submitter[Callable[..., Coroutine[Any, Any, T]]], connection: Any, jobs: Iterable[Mapping[str, Any]], /
    ) -> list[Handle[T]]: ...
    @overload
    async def submit_many_in(
        self: Submitter[Callable[..., T]], connection: Any, jobs: Iterable[Mapping[str, Any]], /
    ) -> list[Handle[T]]: ...

    async def submit_many_in(self, connection: Any, jobs: Iterable[Mapping[str, Any]], /) -> list[Handle[Any]]:
        """As `submit_in`, a job for each mapping of keyword arguments, in one statement. ValueError with a dedupe_key."""
        documents = self._documents(jobs)
        return [self._target.handle(job_id) for job_id in (await store(connection, documents) if documents else ())]

    @overload
    def submit_many_in_sync(
        self: Submitter[Callable[..., Coroutine[Any, Any, T]]], connection: Any, jobs: Iterable[Mapping[str, Any]], /
    ) -> list[SyncHandle[T]]: ...
    @overload
    def submit_many_in_sync(
        self: Submitter[Callable[..., T]], connection: Any, jobs: Iterable[Mapping[str, Any]], /
    ) -> list[SyncHandle[T]]: ...

    def submit_many_in_sync(self, connection: Any, jobs: Iterable[Mapping[str, Any]], /) -> list[SyncHandle[Any]]:
        """As `submit_many_in`, on a connection that blocks."""
        documents = self._documents(jobs)
        return [self._target.handle_sync(job_id) for job_id in (store_sync(connection, documents) if documents else ())]

    @overload
    def handle(self: Submitter[Callable[..., Coroutine[Any, Any, T]]], job_id: int, /) -> Handle[T]: ...
    @overload
    def handle(self: Submitter[Callable[..., T]], job_id: int, /) -> Handle[T]: ...

    def handle(self, job_id: int, /) -> Handle[Any]:
        """The handle of a job of this task that was submitted before, by its id. Nothing is asked."""
        return self._target.handle(job_id)

    @overload
    def handle_sync(self: Submitter[Callable[..., Coroutine[Any, Any, T]]], job_id: int, /) -> SyncHandle[T]: ...
    @overload
    def handle_sync(self: Submitter[Callable[..., T]], job_id: int, /) -> SyncHandle[T]: ...

    def handle_sync(self, job_id: int, /) -> SyncHandle[Any]:
        """As `handle`, for code without an event loop."""
        return self._target.handle_sync(job_id)

    def template(self, /, *args: Any, **kwargs: Any) -> bytes:
        """The job that `submit` would send, as JSON. Nothing is sent."""
        return _document(self._target.arguments.payload(args, kwargs), self._fields())

    def _one(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> ClientRequest:
        return submission(self.template(*args, **kwargs), deduped="dedupe_key" in self._options)

    def _is_older(self, answer: Mapping[str, Any]) -> bool:
        # Without a dedupe_key it is this submit's own job, whose first answer was lost.
        return bool(answer.get("duplicate", False)) and "dedupe_key" in self._options

    def _documents(self, jobs: Iterable[Mapping[str, Any]]) -> list[bytes]:
        if "dedupe_key" in self._options:
            raise ValueError("submit_many with one dedupe_key would make one job of all: submit them one by one")
        rest = _rest(self._fields())
        return [_beside(payload, rest) for payload in self._payloads(jobs)]

    def _many(self, jobs: Iterable[Mapping[str, Any]]) -> ClientRequest | None:
        documents = self._documents(jobs)
        return keyed_batch(b'{"jobs":[%b]}' % b",".join(documents)) if documents else None

    def _payloads(self, jobs: Iterable[Mapping[str, Any]]) -> Iterable[bytes]:
        for place, kwargs in enumerate(jobs):
            if type(kwargs) is not dict and not isinstance(kwargs, Mapping):
                raise TypeError(f"jobs[{place}]: each job is a mapping of its arguments by name, not {kwargs!r}")
            try:
                yield self._target.arguments.payload((), kwargs)
            except TypeError as error:
                raise TypeError(f"jobs[{place}]: {error}") from None

    def _fields(self) -> dict[str, Any]:
        return {"task": self._target.task, **self._options}


#: Each replaces the other.
_TIMES = {"delay", "schedule_at"}
_NOTHING: dict[str, list[int]] = {"ids": []}


def _document(payload: bytes, fields: Mapping[str, Any]) -> bytes:
    """A job as POST /jobs takes it. Raises TypeError or ValueError for an option that is no JSON."""
    return _beside(payload, _rest(fields))


def _rest(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, allow_nan=False, ensure_ascii=False, default=_time).encode()


def _beside(payload: bytes, rest: bytes) -> bytes:
    return b'{"payload":%b,%b' % (payload, rest[1:])


def _time(value: Any) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"an option with an object of type {type(value).__name__} is no JSON")
    offset = value.utcoffset()
    odd = offset is not None and offset.seconds % 60 != 0  # which RFC 3339 cannot say
    return (value.astimezone(UTC) if odd else value).isoformat()
