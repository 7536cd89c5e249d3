"""An executor's connections for the transactions of its tasks."""

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
from taskd.store.transactions import AsyncConnection, Connection, Row, Transaction, away, outlast, say, say_sync

#: A line that is dead without a word is noticed after a minute in silence, or half of one with something to send.
ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
#: Executions after which psycopg prepares a statement, and how many of them it keeps: its own defaults.
PREPARE, PREPARED = 5, 100
#: Seconds between two moments in which a plain task that waits for a place can be stopped.
STEP = 0.1
#: Seconds for those who still use a connection that is given up to hear of it.
FAREWELL = 1.0


def _not_yours(*_: Any) -> NoReturn:
    raise RuntimeError("ctx.transaction() commits at the end of its block; to roll back, raise an exception in it")


class _Over:
    """Takes the place of the connection to PostgreSQL in psycopg's when the block is over, for whoever has kept that."""

    status = ConnStatus.BAD

    def __getattr__(self, name: str) -> NoReturn:
        raise psycopg.InterfaceError("the block of ctx.transaction() is over, and so is its connection")


_OVER: Any = _Over()


class TaskConnection(psycopg.AsyncConnection[Row]):
    """What an async task gets: psycopg's connection around the desk's to PostgreSQL, for one block.

    What a task sets on it (row_factory, adapters, handlers) ends with it, and what still has it then cannot write any more.
    """

    commit = rollback = _not_yours

    def __init__(self, kept: AsyncConnection, prepare: int | None) -> None:
        super().__init__(kept.pgconn)
        _fit(self, kept, prepare)


class SyncTaskConnection(psycopg.Connection[Row]):
    """What a plain task gets."""

    commit = rollback = _not_yours
    given_up = False

    def __init__(self, kept: Connection, prepare: int | None) -> None:
        super().__init__(kept.pgconn)
        _fit(self, kept, prepare)

    def give_up(self) -> None:
        """End what runs on it. For any thread, which does not wait for that."""
        self.given_up = True
        threading.Thread(target=self._cancel, name="cancel", daemon=True).start()

    def _cancel(self) -> None:
        """Until the block is over: a cancel that comes before the statement does nothing."""
        while not self.closed:
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=FAREWELL)
            time.sleep(FAREWELL)


class TaskConnectionPool:
    """Opens connections when they are needed and keeps them: at most `size` for async tasks, and as many for plain ones."""

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
        """A transaction that completes the job as `ending` says, for an async task. Raises as `Transaction` does."""
        own = Transaction(self._look, job_id, attempt)
        async with self._places:
            kept = await self._take()
            lent = TaskConnection(kept, self._prepare)
            try:
                await own.begin(kept)
                yield lent
                _take_back(lent)
                await own.commit(kept, ending)
            except BaseException:
                await outlast(_undo(kept, lent))
                raise
            finally:
                if _usable(kept):
                    self._idle.append(kept)
                else:
                    await outlast(kept.close())

    @contextmanager
    def transaction_sync(self, job_id: int, attempt: int, ending: Completion) -> Iterator[SyncTaskConnection]:
        """The same for a plain task."""
        own = Transaction(self._look, job_id, attempt)
        with self._place():
            kept = self._take_sync()
            lent = SyncTaskConnection(kept, self._prepare)
            try:
                own.begin_sync(kept)
                yield lent
                _take_back_sync(lent)
                own.commit_sync(kept, ending)
            except BaseException:
                _undo_sync(kept, lent)
                raise
            finally:
                if _usable(kept) and not lent.given_up:  # a cancel on its way would meet the next task's statement
                    self._idle_sync.append(kept)
                else:
                    kept.close()

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            await self._idle.pop().close()
        while self._idle_sync:
            self._idle_sync.pop().close()

    def _forget(self) -> None:
        """In a fork: what it does to the connections that it inherited, even to close them, must not reach PostgreSQL."""
        forks.replace_sockets(*(one.pgconn.socket for one in self._open if not one.closed))
        self._idle, self._idle_sync = [], []

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A plain task's place. It may be stopped at any instruction, but not within `extend`: what that gets is not lost."""
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
            kept = self._idle.pop()
            if _usable(kept):
                return kept
            await kept.close()
        try:
            kept = await psycopg.AsyncConnection.connect(self._dsn, **self._options())
        except psycopg.Error as error:
            raise away(error) from error
        self._open.add(kept)
        return kept

    def _take_sync(self) -> Connection:
        while self._idle_sync:
            kept = self._idle_sync.pop()
            if _usable(kept):
                return kept
            kept.close()
        try:
            return self._look()
        except psycopg.Error as error:
            raise away(error) from error

    def _look(self) -> Connection:
        kept = psycopg.connect(self._dsn, **self._options())
        self._open.add(kept)
        return kept

    def _options(self) -> dict[str, Any]:
        """How to connect; the DSN's own word about dead lines counts. PostgreSQL cuts names off after 63 bytes."""
        given = conninfo_to_dict(self._dsn)
        return {name: value for name, value in ALIVE.items() if name not in given} | {
            **ENCODING,
            "autocommit": True,
            "application_name": f"{self._name[:50]}:{uuid4().hex[:12]}",
            "connect_timeout": 5,
            "prepare_threshold": self._prepare,
        }


def _fit(lent: TaskConnection | SyncTaskConnection, kept: AsyncConnection | Connection, prepare: int | None) -> None:
    """What has to be the same for all that use one connection to PostgreSQL."""
    lent._autocommit = True  # BEGIN and COMMIT are the desk's
    lent._prepared = kept._prepared  # PostgreSQL knows these by name
    lent.prepare_threshold, lent.prepared_max = prepare, PREPARED


def _take_back(lent: TaskConnection) -> None:
    """End what can be done with it. Raises RuntimeError if something of the task's is in the middle of using it."""
    if lent.lock.locked():
        raise _in_use()
    _end(lent)


def _take_back_sync(lent: SyncTaskConnection) -> None:
    if not lent.lock.acquire(blocking=False):
        raise _in_use()
    try:
        _end(lent)
    finally:
        lent.lock.release()


def _end(lent: TaskConnection | SyncTaskConnection) -> None:
    """For who holds its lock: whoever gets that next finds nothing to write to."""
    pgconn = lent.pgconn
    if pgconn is _OVER:
        return
    if pgconn.pipeline_status != PipelineStatus.OFF:
        raise _in_use()
    lent.pgconn = _OVER
    pgconn.notice_handler = pgconn.notify_handler = None


def _in_use() -> RuntimeError:
    return RuntimeError(
        "something in the block of ctx.transaction() still uses its connection: wait for it before the block ends"
    )


async def _undo(kept: AsyncConnection, lent: TaskConnection) -> None:
    """Leave nothing of the transaction, and nobody who goes on with it."""
    try:
        _take_back(lent)
        if _begun(kept):
            await say(kept, "ROLLBACK")
    except (psycopg.Error, RuntimeError):
        await _cut_off(kept, lent)


def _undo_sync(kept: Connection, lent: SyncTaskConnection) -> None:
    try:
        _take_back_sync(lent)
        if _begun(kept):
            say_sync(kept, "ROLLBACK")
    except (psycopg.Error, RuntimeError):
        _cut_off_sync(kept, lent)


def _begun(kept: AsyncConnection | Connection) -> bool:
    """Whether there is something to roll back. (A statement that still runs lets nobody do that, as the driver says then.)"""
    return kept.info.transaction_status is not TransactionStatus.IDLE


async def _cut_off(kept: AsyncConnection, lent: TaskConnection) -> None:
    """Close it under those who use it. What PostgreSQL does for them is cancelled, or it would go on, and hold its locks."""
    with contextlib.suppress(psycopg.Error):
        await kept.cancel_safe(timeout=FAREWELL)
    sever(kept)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FAREWELL), lent.lock:
            pass
    await kept.close()


def _cut_off_sync(kept: Connection, lent: SyncTaskConnection) -> None:
    with contextlib.suppress(psycopg.Error):
        kept.cancel_safe(timeout=FAREWELL)
    sever(kept)
    if lent.lock.acquire(timeout=FAREWELL):
        lent.lock.release()
    kept.close()


def _usable(kept: AsyncConnection | Connection) -> bool:
    """Idle, with nothing to read: a server that closes a connection says so first."""
    return not kept.closed and kept.info.transaction_status is TransactionStatus.IDLE and not hung_up(kept)
