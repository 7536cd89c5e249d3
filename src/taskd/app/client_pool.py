"""HTTP clients of an App, and the stand-in for them inside `app.testing()`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from taskd.client import Client
from taskd.client.requests import ClientRequest
from taskd.client.servers import DEFAULT_SERVER

if TYPE_CHECKING:
    # Imported at its first use: an executor whose tasks submit nothing does without httpx.
    from taskd.client.asynchronous import AsyncClient


class BlockingRequests(Protocol):
    """The methods of `taskd.client.Client` that submitters and handles call."""

    def ask(self, request: ClientRequest) -> dict[str, Any]:
        """Send a request; return the decoded body of the response."""
        ...

    def job(self, job_id: int | str) -> dict[str, Any]:
        """Return the job. Raises ClientError with status 404 for an unknown id."""
        ...

    def wait(self, job_id: int | str, seconds: float | None = None) -> dict[str, Any]:
        """Return the job once it is final, or as it is after `seconds` (None: no limit)."""
        ...

    def cancel(self, job_id: int | str) -> dict[str, Any]:
        """Cancel the job. Raises ClientError with status 409 for one that completed or failed."""
        ...


class AsyncRequests(Protocol):
    """The methods of `taskd.client.AsyncClient` that submitters and handles await: as `BlockingRequests`."""

    async def ask(self, request: ClientRequest) -> dict[str, Any]: ...

    async def job(self, job_id: int | str) -> dict[str, Any]: ...

    async def wait(self, job_id: int | str, seconds: float | None = None) -> dict[str, Any]: ...

    async def cancel(self, job_id: int | str) -> dict[str, Any]: ...


class Clients(Protocol):
    """Clients that submitters and handles use: those of an App, or the stand-ins of a bench."""

    @property
    def blocking(self) -> BlockingRequests:
        """The client for threads."""
        ...

    @property
    def asynchronous(self) -> AsyncRequests:
        """The client for the running event loop."""
        ...


class ClientPool:
    """The clients of one App: one for all threads, and one for each event loop, because connections belong to their loop.

    A process that was forked gets clients of its own. The first use opens connections and reads variables; nothing before
    it does. While a bench runs a task in this process, the bench's clients answer instead.
    """

    def __init__(self, server: str | None, token: str | None) -> None:
        self.server = server
        self._token = token
        # Filled and emptied in single steps, so that threads need no lock.
        self._blocking: dict[int, Client] = {}
        self._asynchronous: dict[tuple[int, asyncio.AbstractEventLoop], AsyncClient] = {}

    @property
    def current(self) -> Clients:
        """The clients that a handle keeps: the bench's while a bench runs a task, else these."""
        return stand_in() or self

    @property
    def blocking(self) -> BlockingRequests:
        """The client for the threads of this process. Raises ClientError for an invalid address."""
        bench = stand_in()
        if bench is not None:
            return bench.blocking
        client = self._blocking.get(os.getpid())
        return client or self._blocking.setdefault(os.getpid(), Client(**self._settings()))

    @property
    def asynchronous(self) -> AsyncRequests:
        """The client for the running event loop. Raises ClientError for an invalid address."""
        bench = stand_in()
        if bench is not None:
            return bench.asynchronous
        key = (os.getpid(), asyncio.get_running_loop())
        client = self._asynchronous.get(key)
        if client is None:
            from taskd.client.asynchronous import AsyncClient  # noqa: PLC0415 - as above

            for closed in [key for key in list(self._asynchronous) if key[1].is_closed()]:
                self._asynchronous.pop(closed, None)  # the thread of another loop may do the same at this moment
            client = self._asynchronous[key] = AsyncClient(**self._settings())
        return client

    def close(self) -> None:
        """Close the connections of the threads."""
        client = self._blocking.pop(os.getpid(), None)
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        client = self._asynchronous.pop((os.getpid(), asyncio.get_running_loop()), None)
        if client is not None:
            await client.close()

    def _settings(self) -> dict[str, Any]:
        return {
            "servers": self.server or os.environ.get("TASKD_SERVER") or DEFAULT_SERVER,
            "token": self._token or os.environ.get("TASKD_TOKEN"),
            "ca_file": os.environ.get("TASKD_CA_FILE") or None,
        }


_stand_in: ContextVar[Clients | None] = ContextVar("taskd_bench", default=None)
#: The clients of all attempts that benches of this process run now, the latest last. Changed in single steps.
_active: list[Clients] = []


def stand_in() -> Clients | None:
    """Return the bench's clients while a bench of this process runs a task, else None.

    Code without a context of its own, such as that of a new thread, gets the clients of the attempt that began last.
    """
    clients = _stand_in.get()
    if clients is not None:
        return clients
    return next(iter(_active[-1:]), None)


@contextlib.contextmanager
def standing_in(clients: Clients) -> Iterator[None]:
    """Let `clients` replace those of every App, in this context and in code of this process that has no bench's context.

    A thread that the task's code starts by itself has no such context, and its jobs must not reach a real cluster either.
    """
    token = _stand_in.set(clients)
    _active.append(clients)
    try:
        yield
    finally:
        _active.remove(clients)
        _stand_in.reset(token)
