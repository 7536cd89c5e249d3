"""How an App reaches the schedulers."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Protocol

from taskd.app.recorded import stand_in
from taskd.client import Client
from taskd.client.servers import DEFAULT_SERVER

if TYPE_CHECKING:
    from taskd.app.recorded import AsyncAnswers, BlockingAnswers
    from taskd.client.asynchronous import AsyncClient


class Reach(Protocol):
    """Where handles ask: an App's Connection, or that of a bench."""

    @property
    def blocking(self) -> Client | BlockingAnswers:
        """The client of threads."""
        ...

    @property
    def asynchronous(self) -> AsyncClient | AsyncAnswers:
        """The client of the running event loop."""
        ...


class Connection:
    """The clients of one App: one for all threads, and one for each event loop, because connections belong to their loop.

    A process that was forked gets clients of its own. Nothing is opened, and no variable is read, before the first use. Where
    `app.testing()` runs a task, the bench's recorded jobs answer instead.
    """

    def __init__(self, server: str | None, token: str | None) -> None:
        self.server = server
        self._token = token
        # Filled and emptied in single steps, so that threads need no lock.
        self._blocking: dict[int, Client] = {}
        self._asynchronous: dict[tuple[int, asyncio.AbstractEventLoop], AsyncClient] = {}

    @property
    def here(self) -> Reach:
        """The bench's connection where a bench runs a task, else this one: what a handle keeps."""
        return stand_in() or self

    @property
    def blocking(self) -> Client | BlockingAnswers:
        """The client of this process's threads. Raises ClientError for an address that is none."""
        bench = stand_in()
        if bench is not None:
            return bench.blocking
        found = self._blocking.get(os.getpid())
        return found or self._blocking.setdefault(os.getpid(), Client(**self._where()))

    @property
    def asynchronous(self) -> AsyncClient | AsyncAnswers:
        """The client of the running event loop. Raises ClientError for an address that is none."""
        bench = stand_in()
        if bench is not None:
            return bench.asynchronous
        key = (os.getpid(), asyncio.get_running_loop())
        found = self._asynchronous.get(key)
        if found is None:
            # Imported here: an executor whose tasks submit nothing does without httpx.
            from taskd.client.asynchronous import AsyncClient  # noqa: PLC0415

            for one in [one for one in list(self._asynchronous) if one[1].is_closed()]:
                self._asynchronous.pop(one, None)  # another loop's thread may look through them too
            found = self._asynchronous[key] = AsyncClient(**self._where())
        return found

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

    def _where(self) -> dict[str, Any]:
        return {
            "servers": self.server or os.environ.get("TASKD_SERVER") or DEFAULT_SERVER,
            "token": self._token or os.environ.get("TASKD_TOKEN"),
            "ca_file": os.environ.get("TASKD_CA_FILE") or None,
        }
