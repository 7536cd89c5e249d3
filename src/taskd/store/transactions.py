"""A task's own transaction, which completes its job: the task's writes and the job's end commit together, or not at all.

The fence is in the last statement: `taskd.complete` raises if the claim (id, attempt, session) does not hold any more. It is
sent together with the COMMIT, so that no lock of it ever waits for this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus

from taskd.domain.errors import ClaimLost, SchemaMismatch, StoreUnavailable
from taskd.runtime.log import logger
from taskd.runtime.secrets import mask
from taskd.seams import Ending
from taskd.store.statements import statement

SESSION_OF = statement("session_of")
COMPLETE = statement("complete")
FATE_OF = statement("fate_of")
TERMINATE = statement("terminate")

#: The SQLSTATE of `taskd.complete` for a claim that does not hold.
CLAIM_LOST = "TD001"
#: Seconds between looks at what became of a COMMIT, and until the connection that it was sent by is ended by force.
LOOK, PATIENCE = 0.5, 3.0

T = TypeVar("T")
Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]
AsyncConnection = psycopg.AsyncConnection[Row]


class Transaction:
    """The transaction of one attempt of one job; `connect` opens another connection, to find out the truth with.

    Where something is raised, nothing was committed: ClaimLost if the job is not this attempt's any more, StoreUnavailable if
    the connection broke, psycopg's own error for what PostgreSQL refuses. After a COMMIT that was not answered it waits until
    PostgreSQL says what became of it.
    """

    def __init__(self, connect: Callable[[], Connection], job_id: int, attempt: int) -> None:
        self._connect = connect
        self._job_id = job_id
        self._named = {"job": job_id, "attempt": attempt}
        self._session: UUID | None = None

    async def begin(self, connection: AsyncConnection) -> None:
        """Begin, if the claim holds."""
        try:
            async with _together(connection):
                await connection.execute("BEGIN")
                cursor = await connection.execute(SESSION_OF, self._named)
            self._claimed(await cursor.fetchone())
        except psycopg.Error as error:
            raise away(error) from error

    async def commit(self, connection: AsyncConnection, ending: Ending) -> None:
        """Complete the job and commit. It goes on to its end when its caller is cancelled, who hears of that afterwards."""
        _check(connection)
        await outlast(self._commit(connection, ending))

    async def _commit(self, connection: AsyncConnection, ending: Ending) -> None:
        try:
            async with _together(connection):
                await connection.execute(COMPLETE, self._told(ending))
                await connection.execute("COMMIT")
        except psycopg.Error as error:
            await asyncio.to_thread(self._judge, error, connection)
        ending.committed()

    def begin_sync(self, connection: Connection) -> None:
        """As `begin`."""
        try:
            with _together_sync(connection):
                connection.execute("BEGIN")
                cursor = connection.execute(SESSION_OF, self._named)
            self._claimed(cursor.fetchone())
        except psycopg.Error as error:
            raise away(error) from error

    def commit_sync(self, connection: Connection, ending: Ending) -> None:
        """As `commit`, in a thread of its own: what stops a task's thread does not reach it."""
        _check(connection)
        _in_thread(lambda: self._commit_sync(connection, ending))

    def _commit_sync(self, connection: Connection, ending: Ending) -> None:
        try:
            with _together_sync(connection):
                connection.execute(COMPLETE, self._told(ending))
                connection.execute("COMMIT")
        except psycopg.Error as error:
            self._judge(error, connection)
        ending.committed()

    def _told(self, ending: Ending) -> dict[str, Any]:
        progress = ending.progress
        return {
            **self._named,
            "session": self._session,
            "result": ending.result.decode(),
            "progress": progress.decode() if progress is not None else None,
        }

    def _claimed(self, row: Row | None) -> None:
        if row is None or row[0] is None:
            raise self._lost()
        self._session = row[0]

    def _lost(self) -> ClaimLost:
        return ClaimLost(f"job {self._job_id} is not this attempt's any more: its transaction was rolled back")

    def _judge(self, error: psycopg.Error, connection: Connection | AsyncConnection) -> None:
        """Return if the transaction was committed all the same; raise what the task is to hear if it was not."""
        if error.sqlstate == CLAIM_LOST:
            raise self._lost() from None
        if not connection.broken:
            raise error  # PostgreSQL has said no, and rolled back
        logger().warning("the connection broke in a COMMIT, asking what became of it", job=self._job_id)
        fate = self._truth(_name_of(connection))
        if fate == "running":
            raise _broke() from error
        if fate != "completed":
            raise self._lost() from error

    def _truth(self, name: str) -> str:
        """What became of the job, as soon as PostgreSQL can say. A transaction that stands still is ended, by the name."""
        began = time.monotonic()
        while True:
            try:
                with self._connect() as other, other.transaction():
                    other.execute(f"SET LOCAL lock_timeout = {LOOK * 1000:.0f}")
                    if time.monotonic() - began > PATIENCE:
                        other.execute(TERMINATE, {"name": name})
                    row = other.execute(FATE_OF, self._named).fetchone()
                    assert row is not None
                    return str(row[0])
            except psycopg.Error:
                time.sleep(LOOK)


async def outlast(work: Coroutine[Any, Any, T]) -> T:
    """The work's result, once it has ended: being cancelled does not reach it, and is raised after it."""
    # In a context of its own it is nobody's offspring, so that the end of the attempt does not cancel it either.
    task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # who was cancelled hears of nothing else
        raise cancelled
    return task.result()


def _in_thread(work: Callable[[], None]) -> None:
    """Run the work in another thread, and wait for its end: what is raised in this one from outside comes after that."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised again, over there
            raised.append(error)

    thread = threading.Thread(target=run, name="commit", daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def away(error: psycopg.Error) -> Exception:
    """What a task is told that cannot begin."""
    lines = mask(str(error)).strip().splitlines() or [type(error).__name__]
    if isinstance(error, psycopg.errors.UndefinedFunction | psycopg.errors.InvalidSchemaName):
        return SchemaMismatch(
            f"the database of ctx.transaction() has no schema of taskd that fits ({lines[0]}): run `taskd migrate`"
        )
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return SchemaMismatch(
            f"the role of ctx.transaction() lacks a right ({lines[0]}): docs/transactions.md has the GRANTs"
        )
    return StoreUnavailable(f"PostgreSQL: {lines[0]}")


def _check(connection: Connection | AsyncConnection) -> None:
    """Raise unless the transaction that was begun still goes on."""
    if connection.broken:
        raise _broke()
    status = connection.info.transaction_status
    if status is TransactionStatus.INERROR:
        raise RuntimeError(
            "a statement in ctx.transaction() failed, so it cannot commit: let the exception leave the block"
        )
    if status is not TransactionStatus.INTRANS:
        raise RuntimeError(
            "the transaction was ended inside the block of ctx.transaction(), so the job is not completed with it"
        )


def _broke() -> StoreUnavailable:
    return StoreUnavailable("PostgreSQL: the connection broke, and the transaction was rolled back")


def _name_of(connection: Connection | AsyncConnection) -> str:
    """By which pg_stat_activity shows it. (A broken connection does not tell its parameters any more.)"""
    return str(getattr(connection, "name", ""))


def _together(connection: AsyncConnection) -> contextlib.AbstractAsyncContextManager[Any]:
    """Statements in one round trip, where libpq can."""
    return connection.pipeline() if psycopg.AsyncPipeline.is_supported() else contextlib.nullcontext()


def _together_sync(connection: Connection) -> contextlib.AbstractContextManager[Any]:
    return connection.pipeline() if psycopg.Pipeline.is_supported() else contextlib.nullcontext()
