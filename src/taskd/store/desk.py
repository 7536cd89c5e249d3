"""An executor's connections for the transactions of its tasks."""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn
from uuid import uuid4

import psycopg
from psycopg.pq import TransactionStatus

from taskd.seams import Ending
from taskd.store.transactions import Connection, Row, Transaction, away, outlast


def _not_yours(*_: Any) -> NoReturn:
    raise RuntimeError("ctx.transaction() commits at the end of its block; to roll back, raise an exception in it")


class TaskConnection(psycopg.AsyncConnection[Row]):
    """What an async task gets. `name` is its application_name, no other's."""

    name = ""
    commit = rollback = _not_yours


class SyncTaskConnection(psycopg.Connection[Row]):
    """What a plain task gets."""

    name = ""
    commit = rollback = _not_yours


class Desk:
    """Opens connections when they are needed and keeps them: at most `size` for async tasks, and as many for plain ones."""

    def __init__(self, dsn: str, *, size: int, name: str, pooled: bool = False) -> None:
        self._dsn = dsn
        self._name = name
        self._pooled = pooled
        self._places = asyncio.Semaphore(size)
        self._places_sync = threading.Semaphore(size)
        self._idle: list[TaskConnection] = []
        self._idle_sync: list[SyncTaskConnection] = []

    @asynccontextmanager
    async def transaction(self, job_id: int, attempt: int, ending: Ending) -> AsyncIterator[TaskConnection]:
        """A transaction that completes the job as `ending` says, for an async task. Raises as `Transaction` does."""
        own = Transaction(self._look, job_id, attempt)
        async with self._places:
            connection = await self._take()
            try:
                await own.begin(connection)
                try:
                    yield connection
                except BaseException:
                    await outlast(_roll_back(connection))
                    raise
                await own.commit(connection, ending)
            finally:
                if _usable(connection):
                    self._idle.append(connection)
                else:
                    await outlast(connection.close())

    @contextmanager
    def transaction_sync(self, job_id: int, attempt: int, ending: Ending) -> Iterator[SyncTaskConnection]:
        """The same for a plain task."""
        own = Transaction(self._look, job_id, attempt)
        with self._places_sync:
            connection = self._take_sync()
            try:
                own.begin_sync(connection)
                try:
                    yield connection
                except BaseException:
                    _roll_back_sync(connection)
                    raise
                own.commit_sync(connection, ending)
            finally:
                if _usable(connection):
                    self._idle_sync.append(connection)
                else:
                    connection.close()

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            await self._idle.pop().close()
        while self._idle_sync:
            self._idle_sync.pop().close()

    async def _take(self) -> TaskConnection:
        while self._idle:
            kept = self._idle.pop()
            if _usable(kept):
                return kept
            await kept.close()
        options = self._options()
        try:
            connection = await TaskConnection.connect(self._dsn, **options)
        except psycopg.Error as error:
            raise away(error) from error
        connection.name = options["application_name"]
        return connection

    def _take_sync(self) -> SyncTaskConnection:
        while self._idle_sync:
            kept = self._idle_sync.pop()
            if _usable(kept):
                return kept
            kept.close()
        options = self._options()
        try:
            connection = SyncTaskConnection.connect(self._dsn, **options)
        except psycopg.Error as error:
            raise away(error) from error
        connection.name = options["application_name"]
        return connection

    def _look(self) -> Connection:
        return psycopg.connect(self._dsn, **self._options())

    def _options(self) -> dict[str, Any]:
        """How to connect. A pooler may not keep what is prepared; PostgreSQL cuts names off after 63 bytes."""
        own = {
            "autocommit": True,
            "application_name": f"{self._name[:50]}:{uuid4().hex[:12]}",
            "connect_timeout": 5,
        }
        return own | ({"prepare_threshold": None} if self._pooled else {})


async def _roll_back(connection: TaskConnection) -> None:
    """Leave nothing of the transaction."""
    try:
        await connection.execute("ROLLBACK")
    except psycopg.Error:
        await connection.close()


def _roll_back_sync(connection: SyncTaskConnection) -> None:
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


def _usable(connection: TaskConnection | SyncTaskConnection) -> bool:
    """Idle, with nothing to read: a server that closes a connection says so first."""
    if connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE:
        return False
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return not poll.poll(0)
