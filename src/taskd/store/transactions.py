"""A task's own transaction, which completes its job: the task's writes and the job's end commit together, or not at all.

The fence is in the last statement: `taskd.complete` raises if the claim (id, attempt, session) no longer holds. That statement
and the COMMIT are sent in one message, so that none of its locks ever waits for this process.
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

#: The isolation level, whatever the database's default is: other completions change the same counters, and stricter levels
#: would fail then.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;\n" + statement("session_of")
COMMIT = statement("complete") + ";\nCOMMIT"
XACT_STATUS = statement("xact_status")
FATE_OF = statement("fate_of")
TERMINATE = statement("terminate")

#: The SQLSTATE of `taskd.complete` for a claim that does not hold.
CLAIM_LOST = "TD001"
#: Seconds between two looks at a COMMIT whose answer was lost, and until the connection that sent it is ended by force.
LOOK, PATIENCE = 0.5, 3.0
#: Number of looks without a result after which the log says so, each time.
REMIND = 60
#: Only an operator can put these right.
MISSING = (errors.UndefinedFunction, errors.InvalidSchemaName)
HOPELESS = (*MISSING, errors.InsufficientPrivilege)

T = TypeVar("T")
Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]
AsyncConnection = psycopg.AsyncConnection[Row]


async def send(connection: AsyncConnection, query: str, named: Mapping[str, Any] | None = None) -> Row | None:
    """Send statements in one message; return the last one's row, if it has one. PostgreSQL runs none after one that failed."""
    async with psycopg.AsyncClientCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(query.encode(), named)
        await cursor.set_result(-1)
        return await cursor.fetchone() if cursor.description else None


def send_sync(connection: Connection, query: str, named: Mapping[str, Any] | None = None) -> Row | None:
    """Do the same as `send`, for a plain connection."""
    with psycopg.ClientCursor(connection, row_factory=tuple_row) as cursor:
        cursor.execute(query.encode(), named)
        cursor.set_result(-1)
        return cursor.fetchone() if cursor.description else None


class Transaction:
    """The transaction of one attempt of one job. `connect` opens another connection, to look up a COMMIT's outcome.

    Whenever it raises, nothing was committed: ClaimLost if the claim no longer holds, StoreUnavailable if the connection broke,
    psycopg's own error for a statement that PostgreSQL refuses. After a COMMIT without an answer it waits until PostgreSQL
    shows the outcome; if PostgreSQL never can, that StoreUnavailable has `outcome_unknown`.
    """

    def __init__(self, connect: Callable[[], Connection], job_id: int, attempt: int) -> None:
        self._connect = connect
        self._job_id = job_id
        #: Parameters of the statements: the claim, and PostgreSQL's identifiers of the transaction.
        self._named: dict[str, Any] = {"job": job_id, "attempt": attempt}

    async def begin(self, connection: AsyncConnection) -> None:
        """Begin, if the claim holds."""
        try:
            self._claimed(await send(connection, BEGIN, self._named))
        except psycopg.Error as error:
            raise unavailable(error) from error

    async def commit(self, connection: AsyncConnection, ending: Completion) -> None:
        """Complete the job and commit. A cancel of the caller is raised only after that has ended."""
        _check(connection)
        await run_to_end(self._commit(connection, ending))

    async def _commit(self, connection: AsyncConnection, ending: Completion) -> None:
        try:
            await send(connection, COMMIT, self._parameters(ending))
        except psycopg.Error as error:
            await asyncio.to_thread(self._judge, error, connection)
        ending.committed()

    def begin_sync(self, connection: Connection) -> None:
        """Do the same as `begin`, for a plain connection."""
        try:
            self._claimed(send_sync(connection, BEGIN, self._named))
        except psycopg.Error as error:
            raise unavailable(error) from error

    def commit_sync(self, connection: Connection, ending: Completion) -> None:
        """Do the same as `commit`, in another thread, which an interrupt of the task's thread does not reach."""
        _check(connection)
        _in_thread(lambda: self._commit_sync(connection, ending))

    def _commit_sync(self, connection: Connection, ending: Completion) -> None:
        try:
            send_sync(connection, COMMIT, self._parameters(ending))
        except psycopg.Error as error:
            self._judge(error, connection)
        ending.committed()

    def _parameters(self, ending: Completion) -> dict[str, Any]:
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
        """Return if the transaction was committed in spite of the error; raise the error for the task if it was not."""
        if error.sqlstate == CLAIM_LOST:
            raise self._lost() from None
        if not _unanswered(connection):
            raise error  # PostgreSQL has refused it, and rolled back
        logger().warning("the connection broke in a COMMIT: looking up its outcome", job=self._job_id)
        fate = self._outcome()
        if fate == "running":
            raise _broke() from error
        if fate != "completed":
            raise self._lost() from error

    def _outcome(self) -> str:
        """Return the state of the job once the transaction is over: until then it may still commit."""
        began = time.monotonic()
        for looks in itertools.count(1):
            reason = "the transaction still goes on"
            try:
                with self._connect() as other:
                    if self._over(other, by_force=time.monotonic() - began > PATIENCE):
                        return self._fate(other)
            except HOPELESS as error:
                raise StoreUnavailable(
                    f"the outcome of a COMMIT cannot be looked up. {unavailable(error)}", outcome_unknown=True
                ) from error
            except psycopg.Error as error:
                reason = _first_line(error)
            if looks % REMIND == 0:
                logger().warning("the outcome of a COMMIT is still unknown", job=self._job_id, reason=reason)
            time.sleep(LOOK)
        raise AssertionError("the looks do not end")

    def _over(self, other: Connection, *, by_force: bool) -> bool:
        """Return True if the transaction has ended; end it if `by_force`. Its number shows that it is this one."""
        try:
            row = send_sync(other, XACT_STATUS, self._named)
        except errors.InvalidParameterValue:
            return True  # a standby that took over never had this transaction
        if row != ("in progress",):
            return True
        if by_force:
            with contextlib.suppress(errors.InsufficientPrivilege):
                send_sync(other, TERMINATE, self._named)
        return False

    def _fate(self, other: Connection) -> str:
        with other.transaction():
            send_sync(other, f"SET LOCAL lock_timeout = {LOOK * 1000:.0f}")
            row = send_sync(other, FATE_OF, self._named)
        assert row is not None
        return str(row[0])


async def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Return the work's result. A cancel of the caller does not reach the work, and is raised after its end."""
    # In an empty context it does not belong to the attempt, so that the attempt's end does not cancel it either.
    task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # retrieved, so that asyncio does not report it: the cancel counts
        raise cancelled
    return task.result()


def _in_thread(work: Callable[[], None]) -> None:
    """Run the work in another thread and wait for its end. An interrupt of this thread is raised after that."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the caller's thread
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


def unavailable(error: psycopg.Error) -> Exception:
    """Return the error for a task whose transaction cannot begin."""
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
    """Return True if the last message has no answer: PostgreSQL may have run it, or may still run it."""
    return connection.broken or connection.info.transaction_status is TransactionStatus.ACTIVE
