"""Jobs of one task with certain options: their JSON, and the functions that send one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from taskd.app.client_pool import ClientPool
from taskd.app.handle import Handle, SyncHandle
from taskd.app.transactional import store, store_sync
from taskd.client.requests import ClientRequest, keyed_batch, submission

P = ParamSpec("P")
T = TypeVar("T")
F_co = TypeVar("F_co", covariant=True)


class SubmitTarget(NamedTuple):
    """A task as its jobs need it.

    `payload` makes JSON of a call's arguments, and `read` makes the task's result of its decoded JSON.
    """

    task: str
    payload: Callable[[Sequence[Any], Mapping[str, Any]], bytes]
    read: Callable[[Any], Any]
    clients: ClientPool

    def handle(self, job_id: int, *, duplicate: bool = False) -> Handle[Any]:
        """Return the handle of a job of the task."""
        return Handle(job_id, self.read, self.clients.current, duplicate=duplicate)

    def handle_sync(self, job_id: int, *, duplicate: bool = False) -> SyncHandle[Any]:
        """Return the handle of a job of the task, for code without an event loop."""
        return SyncHandle(job_id, self.read, self.clients.current, duplicate=duplicate)


class Signature(Generic[F_co]):
    """The signature of a task's function, as a Callable: type checkers choose overloads of methods by it."""


class JobFactory(Signature[Callable[P, T]], Generic[P, T]):
    """A task with options. `P` are the parameters of the task's function, `T` is the task's result."""

    def __init__(self, target: SubmitTarget, options: dict[str, Any]) -> None:
        self._target = target
        self._options = options

    def child_of(self, job_id: int) -> JobFactory[P, T]:
        """Return a factory whose jobs name this one as their `parent_id`."""
        return JobFactory(self._target, self._options | {"parent_id": job_id})

    def document(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the job that a submit with these arguments would send. Raises as that does."""
        document: dict[str, Any] = json.loads(self.template(*args, **kwargs))
        return document

    def template(self, /, *args: Any, **kwargs: Any) -> bytes:
        """Return the job that `submit` would send, as JSON. Nothing is sent."""
        return _document(self._target.payload(args, kwargs), self._fields())

    def _request(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> ClientRequest:
        return submission(self.template(*args, **kwargs), deduped="dedupe_key" in self._options)

    def _batch(self, jobs: Iterable[Mapping[str, Any]]) -> ClientRequest | None:
        documents = self._documents(jobs)
        return keyed_batch(b'{"jobs":[%b]}' % b",".join(documents)) if documents else None

    def _documents(self, jobs: Iterable[Mapping[str, Any]]) -> list[bytes]:
        """Return a job for each mapping of keyword arguments, as JSON. Raises ValueError with a dedupe_key."""
        if "dedupe_key" in self._options:
            raise ValueError("submit_many with one dedupe_key would make one job of all: submit them one by one")
        fields = _json(self._fields())
        return [_joined(payload, fields) for payload in self._payloads(jobs)]

    def _payloads(self, jobs: Iterable[Mapping[str, Any]]) -> Iterable[bytes]:
        for index, kwargs in enumerate(jobs):
            if type(kwargs) is not dict and not isinstance(kwargs, Mapping):
                raise TypeError(f"jobs[{index}]: each job is a mapping of its arguments by name, not {kwargs!r}")
            try:
                yield self._target.payload((), kwargs)
            except TypeError as error:
                raise TypeError(f"jobs[{index}]: {error}") from None

    def _fields(self) -> dict[str, Any]:
        return {"task": self._target.task, **self._options}

    def _duplicate(self, response: Mapping[str, Any]) -> bool:
        # Without a dedupe_key the older job is this submit's own: the first response was lost.
        return bool(response.get("duplicate", False)) and "dedupe_key" in self._options


async def send(factory: JobFactory[P, T], args: Iterable[Any], kwargs: Mapping[str, Any]) -> Handle[T]:
    """Submit one job to the schedulers."""
    response = await factory._target.clients.asynchronous.ask(factory._request(args, kwargs))
    return factory._target.handle(response["id"], duplicate=factory._duplicate(response))


def send_sync(factory: JobFactory[P, T], args: Iterable[Any], kwargs: Mapping[str, Any]) -> SyncHandle[T]:
    """Submit one job to the schedulers, from code without an event loop."""
    response = factory._target.clients.blocking.ask(factory._request(args, kwargs))
    return factory._target.handle_sync(response["id"], duplicate=factory._duplicate(response))


async def send_in(
    connection: Any, factory: JobFactory[P, T], args: Iterable[Any], kwargs: Mapping[str, Any]
) -> Handle[T]:
    """Submit one job on an asynchronous connection of the caller's."""
    (job_id,) = await store(connection, [factory.template(*args, **kwargs)])
    return factory._target.handle(job_id)


def send_in_sync(
    connection: Any, factory: JobFactory[P, T], args: Iterable[Any], kwargs: Mapping[str, Any]
) -> SyncHandle[T]:
    """Submit one job on a blocking connection of the caller's."""
    (job_id,) = store_sync(connection, [factory.template(*args, **kwargs)])
    return factory._target.handle_sync(job_id)


def _document(payload: bytes, fields: Mapping[str, Any]) -> bytes:
    """Return a job as POST /jobs takes it. Raises TypeError or ValueError for an option that is no JSON."""
    return _joined(payload, _json(fields))


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, allow_nan=False, ensure_ascii=False, default=_time).encode()


def _joined(payload: bytes, fields: bytes) -> bytes:
    return b'{"payload":%b,%b' % (payload, fields[1:])


def _time(value: Any) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"an option with an object of type {type(value).__name__} is no JSON")
    offset = value.utcoffset()
    fractional = offset is not None and offset.seconds % 60 != 0  # RFC 3339 has offsets in whole minutes
    return (value.astimezone(UTC) if fractional else value).isoformat()
