"""Connections of an executor for the transactions of its tasks.

The pool owns the connections to PostgreSQL. A task gets an object of psycopg's own around one of them, for one block; at the
block's end that object loses the connection, so that nothing that connection it can write any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import ConnStatus, PipelineStatus, TransactionStatus

from taskd.runtime import forks
from taskd.seams import Completion
from taskd.store.pinned import ENCODING
from taskd.store.sockets import hung_up, sever
from taskd.store.transactions import (
    AsyncConnection,
    Connection,
    Row,
    Transaction,
    run_to_end,
    send,
    send_sync,
    unavailable,
)

#: A dead connection is noticed after a minute of silence, or after half a minute with something to send.
ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
#: Executions after which psycopg prepares a statement, and the number that it keeps prepared: its own defaults.
PREPARE, PREPARED = 5, 100
#: Seconds between two moments at which a plain task that waits for a place can be stopped.
STEP = 0.1
#: Seconds that calls on a connection that is given up have to end.
GRACE = 1.0


def _refuse(*_: Any) -> NoReturn:
    raise RuntimeError("ctx.transaction() commits at the end of its block; to roll back, raise an exception in it")


class _Closed:
    """Closed stand-in for a connection whose block has ended; every use raises."""

    status = ConnStatus.BAD

    def __getattr__(self, name: str) -> NoReturn:
        raise psycopg.InterfaceError("the block of ctx.transaction() is over, and so is its connection")


_CLOSED: Any = _Closed()


class TaskConnection(psycopg.AsyncConnection[Row]):
    """The connection of an async task, for one block: an object of psycopg's around the pool's connection to PostgreSQL.

    Settings of the task (row_factory, adapters, handlers) end with it, and code that still has it then cannot write any more.
    """

    commit = rollback = _refuse

    def __init__(self, connection: AsyncConnection, prepare: int | None) -> None:
        super().__init__(connection.pgconn)
        _fit(self, connection, prepare)


class SyncTaskConnection(psycopg.Connection[Row]):
    """The connection of a plain task, for one block."""

    commit = rollback = _refuse
    given_up = False

    def __init__(self, connection: Connection, prepare: int | None) -> None:
        super().__init__(connection.pgconn)
        _fit(self, connection, prepare)

    def give_up(self) -> None:
        """End the statement that runs on it. Any thread may call this; it does not wait for the end."""
        self.given_up = True
        threading.Thread(target=self._cancel, name="cancel", daemon=True).start()

    def _cancel(self) -> None:
        """Cancel until the block is over: a cancel that arrives before the statement does nothing."""
        while not self.closed:
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=GRACE)
            time.sleep(GRACE)


class TaskConnectionPool:
    """Implements `taskd.seams.TaskConnections`. Opens connections when they are needed and keeps them.

    There are at most `size` for async tasks, and as many for plain ones.
    """

    def __init__(self, dsn: str, *, size: int, name: str, pooled: bool = False) -> None:
        self._dsn = dsn
        self._name = name
        self._prepare = None if pooled else PREPARE  # a pooler may not keep what is prepared
        self._places = asyncio.Semaphore(size)
        self._places_sync: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(size):
            self._places_sync.put(None)
        self._idle: list[AsyncConnection] = []
        self._idle_sync: list[Connection] = []
        self._open: weakref.WeakSet[AsyncConnection | Connection] = weakref.WeakSet()
        forks.in_child(self._forget)

    @asynccontextmanager
    async def transaction(self, job_id: int, attempt: int, ending: Completion) -> AsyncIterator[TaskConnection]:
        transaction = Transaction(self._connect, job_id, attempt)
        async with self._places:
            connection = await self._take()
            wrapper = TaskConnection(connection, self._prepare)
            try:
                await transaction.begin(connection)
                yield wrapper
                _take_back(wrapper)
                await transaction.commit(connection, ending)
            except BaseException:
                await run_to_end(_undo(connection, wrapper))
                raise
            finally:
                if _usable(connection):
                    self._idle.append(connection)
                else:
                    await run_to_end(connection.close())

    @contextmanager
    def transaction_sync(self, job_id: int, attempt: int, ending: Completion) -> Iterator[SyncTaskConnection]:
        transaction = Transaction(self._connect, job_id, attempt)
        with self._place():
            connection = self._take_sync()
            wrapper = SyncTaskConnection(connection, self._prepare)
            try:
                transaction.begin_sync(connection)
                yield wrapper
                _take_back_sync(wrapper)
                transaction.commit_sync(connection, ending)
            except BaseException:
                _undo_sync(connection, wrapper)
                raise
            finally:
                if _usable(connection) and not wrapper.given_up:  # a late cancel would end the next task's statement
                    self._idle_sync.append(connection)
                else:
                    connection.close()

    async def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            await self._idle.pop().close()
        while self._idle_sync:
            self._idle_sync.pop().close()

    def _forget(self) -> None:
        """Let go of inherited connections, in a fork: to use them there, or even to close them, must not reach PostgreSQL."""
        forks.replace_sockets(*(connection.pgconn.socket for connection in self._open if not connection.closed))
        self._idle, self._idle_sync = [], []

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Hold a plain task's place. A task may be stopped at any instruction but within `extend`, so no place is lost."""
        held: list[None] = []
        try:
            while not held:
                with contextlib.suppress(queue.Empty):
                    held.extend(map(self._places_sync.get, (True,), (STEP,)))
            yield
        finally:
            if held:
                self._places_sync.put(None)

    async def _take(self) -> AsyncConnection:
        while self._idle:
            connection = self._idle.pop()
            if _usable(connection):
                return connection
            await connection.close()
        try:
            connection = await psycopg.AsyncConnection.connect(self._dsn, **self._options())
        except psycopg.Error as error:
            raise unavailable(error) from error
        self._open.add(connection)
        return connection

    def _take_sync(self) -> Connection:
        while self._idle_sync:
            connection = self._idle_sync.pop()
            if _usable(connection):
                return connection
            connection.close()
        try:
            return self._connect()
        except psycopg.Error as error:
            raise unavailable(error) from error

    def _connect(self) -> Connection:
        connection = psycopg.connect(self._dsn, **self._options())
        self._open.add(connection)
        return connection

    def _options(self) -> dict[str, Any]:
        """Return the options of a connection. Keepalives of the DSN take precedence. PostgreSQL cuts names after 63 bytes."""
        given = conninfo_to_dict(self._dsn)
        return {name: value for name, value in ALIVE.items() if name not in given} | {
            **ENCODING,
            "autocommit": True,
            "application_name": f"{self._name[:50]}:{uuid4().hex[:12]}",
            "connect_timeout": 5,
            "prepare_threshold": self._prepare,
        }


def _fit(
    wrapper: TaskConnection | SyncTaskConnection, connection: AsyncConnection | Connection, prepare: int | None
) -> None:
    """Set what has to be the same for all that use one connection to PostgreSQL."""
    wrapper._autocommit = True  # the pool sends BEGIN and COMMIT
    wrapper._prepared = connection._prepared  # PostgreSQL has these by name
    wrapper.prepare_threshold, wrapper.prepared_max = prepare, PREPARED


def _take_back(wrapper: TaskConnection) -> None:
    """Take the connection from the task. Raises RuntimeError if the task's code is using it."""
    if wrapper.lock.locked():
        raise _in_use()
    _end(wrapper)


def _take_back_sync(wrapper: SyncTaskConnection) -> None:
    if not wrapper.lock.acquire(blocking=False):
        raise _in_use()
    try:
        _end(wrapper)
    finally:
        wrapper.lock.release()


def _end(wrapper: TaskConnection | SyncTaskConnection) -> None:
    """Replace the connection by the closed stand-in. The caller holds the lock, so the next holder has nothing to write to."""
    pgconn = wrapper.pgconn
    if pgconn is _CLOSED:
        return
    if pgconn.pipeline_status != PipelineStatus.OFF:
        raise _in_use()
    wrapper.pgconn = _CLOSED
    pgconn.notice_handler = pgconn.notify_handler = None


def _in_use() -> RuntimeError:
    return RuntimeError(
        "something in the block of ctx.transaction() still uses its connection: wait for it before the block ends"
    )


async def _undo(connection: AsyncConnection, wrapper: TaskConnection) -> None:
    """Roll the transaction back, and leave no code that goes on with it."""
    try:
        _take_back(wrapper)
        if _begun(connection):
            await send(connection, "ROLLBACK")
    except (psycopg.Error, RuntimeError):
        await _cut_off(connection, wrapper)


def _undo_sync(connection: Connection, wrapper: SyncTaskConnection) -> None:
    try:
        _take_back_sync(wrapper)
        if _begun(connection):
            send_sync(connection, "ROLLBACK")
    except (psycopg.Error, RuntimeError):
        _cut_off_sync(connection, wrapper)


def _begun(connection: AsyncConnection | Connection) -> bool:
    """Return True if there is something to roll back. While a statement still runs, the driver refuses to do that."""
    return connection.info.transaction_status is not TransactionStatus.IDLE


async def _cut_off(connection: AsyncConnection, wrapper: TaskConnection) -> None:
    """Close the connection while it is in use. Its statement is cancelled, for it would go on and hold its locks."""
    with contextlib.suppress(psycopg.Error):
        await connection.cancel_safe(timeout=GRACE)
    sever(connection)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE), wrapper.lock:
            pass
    await connection.close()


def _cut_off_sync(connection: Connection, wrapper: SyncTaskConnection) -> None:
    with contextlib.suppress(psycopg.Error):
        connection.cancel_safe(timeout=GRACE)
    sever(connection)
    if wrapper.lock.acquire(timeout=GRACE):
        wrapper.lock.release()
    connection.close()


def _usable(connection: AsyncConnection | Connection) -> bool:
    """Return True if it is idle with nothing to read: a server that closes a connection says so first."""
    return (
        not connection.closed
        and connection.info.transaction_status is TransactionStatus.IDLE
        and not hung_up(connection)
    )
