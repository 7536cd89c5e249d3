"""A task's own transaction, which completes its job: the task's writes and the job's end commit together, or not at all.

The fence is in the last statement: `taskd.complete` raises if the claim (id, attempt, session) does not hold any more. It goes
in one message with the COMMIT, so that no lock of it ever waits for this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from taskd.domain.errors import ClaimLost, SchemaMismatch, StoreUnavailable
from taskd.runtime.log import logger
from taskd.runtime.secrets import mask
from taskd.seams import Completion
from taskd.store.statements import statement

#: Whatever the database's default is: others' completions change the same counters, which stricter levels do not stand.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;\n" + statement("session_of")
COMMIT = statement("complete") + ";\nCOMMIT"
XACT_STATUS = statement("xact_status")
FATE_OF = statement("fate_of")
TERMINATE = statement("terminate")

#: The SQLSTATE of `taskd.complete` for a claim that does not hold.
CLAIM_LOST = "TD001"
#: Seconds between looks at what became of a COMMIT, and until the connection that it was sent by is ended by force.
LOOK, PATIENCE = 0.5, 3.0
#: After so many looks in vain the log tells of it.
REMIND = 60
#: Nobody but an operator mends these.
MISSING = (errors.UndefinedFunction, errors.InvalidSchemaName)
HOPELESS = (*MISSING, errors.InsufficientPrivilege)

T = TypeVar("T")
Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]
AsyncConnection = psycopg.AsyncConnection[Row]


async def say(connection: AsyncConnection, query: str, named: Mapping[str, Any] | None = None) -> Row | None:
    """Send statements in one message; PostgreSQL runs none after one that failed. The last one's row, if it gives any."""
    async with psycopg.AsyncClientCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(query.encode(), named)
        await cursor.set_result(-1)
        return await cursor.fetchone() if cursor.description else None


def say_sync(connection: Connection, query: str, named: Mapping[str, Any] | None = None) -> Row | None:
    """As `say`."""
    with psycopg.ClientCursor(connection, row_factory=tuple_row) as cursor:
        cursor.execute(query.encode(), named)
        cursor.set_result(-1)
        return cursor.fetchone() if cursor.description else None


class Transaction:
    """The transaction of one attempt of one job; `connect` opens another connection, to find out the truth with.

    Where something is raised, nothing was committed: ClaimLost if the job is not this attempt's any more, StoreUnavailable if
    the connection broke, psycopg's own error for what PostgreSQL refuses. After a COMMIT that was not answered it waits until
    PostgreSQL says what became of it; if PostgreSQL never will, that StoreUnavailable has `outcome_unknown`.
    """

    def __init__(self, connect: Callable[[], Connection], job_id: int, attempt: int) -> None:
        self._connect = connect
        self._job_id = job_id
        #: What the statements are told: the claim, and what PostgreSQL knows the transaction by.
        self._named: dict[str, Any] = {"job": job_id, "attempt": attempt}

    async def begin(self, connection: AsyncConnection) -> None:
        """Begin, if the claim holds."""
        try:
            self._claimed(await say(connection, BEGIN, self._named))
        except psycopg.Error as error:
            raise away(error) from error

    async def commit(self, connection: AsyncConnection, ending: Completion) -> None:
        """Complete the job and commit. It goes on to its end when its caller is cancelled, who hears of that afterwards."""
        _check(connection)
        await outlast(self._commit(connection, ending))

    async def _commit(self, connection: AsyncConnection, ending: Completion) -> None:
        try:
            await say(connection, COMMIT, self._told(ending))
        except psycopg.Error as error:
            await asyncio.to_thread(self._judge, error, connection)
        ending.committed()

    def begin_sync(self, connection: Connection) -> None:
        """As `begin`."""
        try:
            self._claimed(say_sync(connection, BEGIN, self._named))
        except psycopg.Error as error:
            raise away(error) from error

    def commit_sync(self, connection: Connection, ending: Completion) -> None:
        """As `commit`, in a thread of its own: what stops a task's thread does not reach it."""
        _check(connection)
        _in_thread(lambda: self._commit_sync(connection, ending))

    def _commit_sync(self, connection: Connection, ending: Completion) -> None:
        try:
            say_sync(connection, COMMIT, self._told(ending))
        except psycopg.Error as error:
            self._judge(error, connection)
        ending.committed()

    def _told(self, ending: Completion) -> dict[str, Any]:
        progress = ending.progress
        return {
            **self._named,
            "result": ending.result.decode(),
            "progress": progress.decode() if progress is not None else None,
        }

    def _claimed(self, row: Row | None) -> None:
        if row is None or row[0] is None:
            raise self._lost()
        self._named |= zip(("session", "pid", "xid"), row, strict=True)

    def _lost(self) -> ClaimLost:
        return ClaimLost(f"job {self._job_id} is not this attempt's any more: its transaction was rolled back")

    def _judge(self, error: psycopg.Error, connection: Connection | AsyncConnection) -> None:
        """Return if the transaction was committed all the same; raise what the task is to hear if it was not."""
        if error.sqlstate == CLAIM_LOST:
            raise self._lost() from None
        if not _unanswered(connection):
            raise error  # PostgreSQL has said no, and rolled back
        logger().warning("the connection broke in a COMMIT, asking what became of it", job=self._job_id)
        fate = self._truth()
        if fate == "running":
            raise _broke() from error
        if fate != "completed":
            raise self._lost() from error

    def _truth(self) -> str:
        """What became of the job, as soon as the transaction is over: until then it may still commit."""
        began = time.monotonic()
        for looks in itertools.count(1):
            trouble = "the transaction still goes on"
            try:
                with self._connect() as other:
                    if self._over(other, by_force=time.monotonic() - began > PATIENCE):
                        return self._fate(other)
            except HOPELESS as error:
                raise StoreUnavailable(
                    f"nobody can tell what became of a COMMIT. {away(error)}", outcome_unknown=True
                ) from error
            except psycopg.Error as error:
                trouble = _first_line(error)
            if looks % REMIND == 0:
                logger().warning("it is still not known what became of a COMMIT", job=self._job_id, reason=trouble)
            time.sleep(LOOK)
        raise AssertionError("the looks do not end")

    def _over(self, other: Connection, *, by_force: bool) -> bool:
        """Whether the transaction has ended. It is ended by force if that is allowed; its number shows that it is this one."""
        try:
            row = say_sync(other, XACT_STATUS, self._named)
        except errors.InvalidParameterValue:
            return True  # a PostgreSQL that took over has never heard of it
        if row != ("in progress",):
            return True
        if by_force:
            with contextlib.suppress(errors.InsufficientPrivilege):
                say_sync(other, TERMINATE, self._named)
        return False

    def _fate(self, other: Connection) -> str:
        with other.transaction():
            say_sync(other, f"SET LOCAL lock_timeout = {LOOK * 1000:.0f}")
            row = say_sync(other, FATE_OF, self._named)
        assert row is not None
        return str(row[0])


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
    stopped: BaseException | None = None
    while True:
        try:
            thread.join()
            break
        except BaseException as error:  # noqa: BLE001 - it is raised again, below
            stopped = error
    if stopped is not None:
        raise stopped
    if raised:
        raise raised[0]


def away(error: psycopg.Error) -> Exception:
    """What a task is told that cannot begin."""
    line = _first_line(error)
    if isinstance(error, MISSING):
        return SchemaMismatch(
            f"the database of ctx.transaction() has no schema of taskd that fits ({line}): run `taskd migrate`"
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return SchemaMismatch(
            f"the role of ctx.transaction() lacks a right ({line}): docs/transactions.md has the GRANTs"
        )
    return StoreUnavailable(f"PostgreSQL: {line}")


def _first_line(error: psycopg.Error) -> str:
    lines = mask(str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


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


def _unanswered(connection: Connection | AsyncConnection) -> bool:
    """Whether what was sent last may still happen, or have happened: PostgreSQL has not said."""
    return connection.broken or connection.info.transaction_status is TransactionStatus.ACTIVE
