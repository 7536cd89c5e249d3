"""A lane: one connection for one duty, with a deadline that holds even on a hung server.

With a pool, a leader's renewal could wait behind the API's reads; here each duty has a connection of its own. To cancel a
psycopg call on a server that does not answer would wait for that server. So the socket of a late call is shut down, and the
call ends by itself (docs/adr/0004-lanes.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import psycopg
from psycopg import errors
from psycopg.adapt import Buffer, Loader
from psycopg.pq import Format
from psycopg.rows import tuple_row

from taskd.domain.errors import Rejected, RowHeld, SchemaMismatch, StoreUnavailable
from taskd.runtime import meters
from taskd.store.pinned import ENCODING, PINNED, assignments, newer, remaining, startup
from taskd.store.sockets import hung_up, sever

Row = tuple[Any, ...]

#: A plan is made for each execution, so for its values and for the present size of the tables. A plan that was made while they
#: were small would stay until PostgreSQL analyses them again, and read them whole meanwhile (docs/adr/0005-plans.md).
PLANNING = {"plan_cache_mode": "force_custom_plan"}
#: A count of a million jobs for /metrics uses one core, and leaves the others to reads of single jobs.
ALONE = {"max_parallel_workers_per_gather": "0"}
#: A plan is made once: to make it for each execution takes half of a small statement's time.
ONE_PLANNING = {"plan_cache_mode": "force_generic_plan"}
#: Also leaves the planner one way to run the hot statements: from the batch, by primary key or ctid (docs/adr/0005-plans.md).
ONE_PLAN = {**ONE_PLANNING, **{f"enable_{way}": "off" for way in ("hashjoin", "mergejoin", "seqscan", "bitmapscan")}}
#: The same for writes that are promised to no caller and whose loss in a crash is harmless: their commits do not wait for
#: the disk (docs/adr/0019-what-does-not-wait-for-the-disk.md).
RELAXED = {**ONE_PLAN, "synchronous_commit": "off"}
#: Bytes after which a page of rows ends, with the row that reaches this size.
PAGE_BYTES = 8 * 1024 * 1024
#: PostgreSQL refuses the data, not the connection: the same input fails again.
DATA_ERRORS = (errors.DataError, errors.IntegrityError, errors.ProgramLimitExceeded)


class RawJson(Loader):
    """Loads json undecoded, as it travels through taskd."""

    format = Format.BINARY

    def load(self, data: Buffer) -> msgspec.Raw:
        """Return the text as it is."""
        return msgspec.Raw(bytes(data))


class RawJsonb(RawJson):
    """Loads jsonb undecoded: its binary form is its text behind a byte with the version."""

    def load(self, data: Buffer) -> msgspec.Raw:
        """Return the text."""
        return msgspec.Raw(bytes(data)[1:])


class Lane:
    """One connection, opened at the first use and again after it broke. It runs one statement at a time; others wait."""

    def __init__(
        self, dsn: str, *, name: str, deadline: float, options: Mapping[str, str] | None = None, pooled: bool = False
    ) -> None:
        """`options` are settings of PostgreSQL. `pooled`: a pooler answers, which keeps no settings of a session."""
        self._dsn = dsn
        self._name = name
        self._options = {**PINNED, "jit": "off", **ALONE, **PLANNING, **(options or {})}
        self._pooled = pooled
        self._deadline = deadline
        self._connection: psycopg.AsyncConnection[Row] | None = None
        self._turn = asyncio.Lock()
        self._running: asyncio.Task[Any] | None = None
        self._closed = False

    async def fetch(
        self, statement: str, parameters: Mapping[str, Any] | None = None, *, deadline: float | None = None
    ) -> list[Row]:
        """Run one statement and return its rows.

        Raises StoreUnavailable after `deadline` seconds (the wait for the lane included) or when the connection breaks,
        RowHeld (a StoreUnavailable) when the lane's lock_timeout is over, Rejected when PostgreSQL refuses the data, and
        SchemaMismatch when a table or column is missing.
        """
        limit = deadline or self._deadline
        work = asyncio.ensure_future(self._run(statement, parameters))
        try:
            done, _ = await asyncio.wait({work}, timeout=limit)
        except asyncio.CancelledError:
            await self._abandon(work)
            raise
        if not done:
            await self._abandon(work)
            raise StoreUnavailable(f"PostgreSQL did not answer within {limit:g} s", outcome_unknown=True, shown=True)
        return work.result()

    async def close(self) -> None:
        """Close the connection. A call that is under way and every later call end with StoreUnavailable."""
        self._closed = True
        if self._turn.locked() and self._connection is not None:
            sever(self._connection)
        await self.rest()

    async def rest(self) -> None:
        """Close the connection once no call is under way; a later call opens another one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._deadline), self._turn:
                await self._discard()

    async def _run(self, statement: str, parameters: Mapping[str, Any] | None) -> list[Row]:
        async with self._turn:
            self._running = asyncio.current_task()
            connection = await self._ready()
            try:
                cursor = await self._execute(connection, statement, parameters)
                return await cursor.fetchall() if cursor.description else []
            except DATA_ERRORS as error:
                if self._pooled:  # in a transaction that failed
                    await self._discard()
                raise Rejected(_first_line(error)) from None
            except errors.LockNotAvailable as error:
                if self._pooled:
                    await self._discard()
                raise RowHeld(f"PostgreSQL: {_first_line(error)}") from error
            except (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName) as error:
                raise SchemaMismatch(
                    f"the database's schema does not fit ({_first_line(error)}): run `taskd migrate`"
                ) from None
            except psycopg.Error as error:
                await self._discard()
                raise StoreUnavailable(f"PostgreSQL: {_first_line(error)}", outcome_unknown=True) from error
            except asyncio.CancelledError:
                await self._discard()
                raise

    async def _execute(
        self, connection: psycopg.AsyncConnection[Row], statement: str, parameters: Mapping[str, Any] | None
    ) -> psycopg.AsyncCursor[Row]:
        """Run the statement in one round trip; behind a pooler with its settings, which hold for its transaction only.

        Rows come in binary form: as text, each time in them would be printed by PostgreSQL and parsed here.
        """
        if not self._pooled:
            return await connection.execute(statement, parameters, prepare=True, binary=True)
        settings = assignments(self._options | newer(connection.info.server_version), local=True)
        async with connection.pipeline():
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", prepare=False)
            await connection.execute(f"SELECT {settings}", prepare=False)
            cursor = await connection.execute(statement, parameters, prepare=False, binary=True)
            await connection.execute("COMMIT", prepare=False)
        return cursor

    async def _ready(self) -> psycopg.AsyncConnection[Row]:
        if self._closed:
            raise StoreUnavailable("the connection to PostgreSQL is closed: this process is shutting down", shown=True)
        if self._connection is not None and (self._connection.closed or hung_up(self._connection)):
            await self._discard()
        if self._connection is None:
            self._connection = await self._connect()
        return self._connection

    async def _connect(self) -> psycopg.AsyncConnection[Row]:
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._dsn,
                autocommit=True,
                row_factory=tuple_row,
                application_name=self._name,
                **({**ENCODING, "options": ""} if self._pooled else startup(self._options)),
                connect_timeout=max(2, int(self._deadline)),
            )
            if not self._pooled and (left := remaining(connection.info.server_version, self._options)):
                await connection.execute(left.encode())
        except psycopg.Error as error:
            raise StoreUnavailable(f"PostgreSQL: {_first_line(error)}") from error
        connection.adapters.register_loader("json", RawJson)
        connection.adapters.register_loader("jsonb", RawJsonb)
        return connection

    async def _abandon(self, work: asyncio.Future[list[Row]]) -> None:
        """End a call that is no longer waited for, by its broken connection, or by a cancel while it waits or connects."""
        work.add_done_callback(_forget)
        if self._running is work and self._connection is not None:
            sever(self._connection)
        else:
            work.cancel()
        await asyncio.wait({work}, timeout=1.0)
        work.cancel()

    async def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _forget(work: asyncio.Future[list[Row]]) -> None:
    """Retrieve the exception of an abandoned call, so that asyncio does not report it: its caller got another one."""
    if not work.cancelled():
        work.exception()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class Lanes:
    """A few lanes for one duty with concurrent statements: the API's reads."""

    def __init__(self, dsn: str, *, name: str, deadline: float, size: int, pooled: bool = False) -> None:
        self._lanes = [Lane(dsn, name=name, deadline=deadline, pooled=pooled) for _ in range(size)]
        self._idle: asyncio.LifoQueue[Lane] = asyncio.LifoQueue()
        for lane in self._lanes:
            self._idle.put_nowait(lane)
        self._deadline = deadline
        self._wait = meters.LANE_WAIT.labels(name.split(":")[1] if ":" in name else name)

    async def fetch(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run a statement as `Lane.fetch` does, on a free lane; the wait for one counts against the deadline."""
        try:
            async with asyncio.timeout(self._deadline):
                with meters.timed(self._wait):
                    lane = await self._idle.get()
        except TimeoutError:
            raise StoreUnavailable("every connection to PostgreSQL is busy", shown=True) from None
        try:
            return await lane.fetch(statement, parameters)
        finally:
            self._idle.put_nowait(lane)

    async def close(self) -> None:
        """Close all lanes."""
        for lane in self._lanes:
            await lane.close()


def int_array(numbers: Iterable[int]) -> str:
    """Return PostgreSQL's text form of an array of integers: for a batch cheaper than to adapt each integer of a list."""
    return "{" + ",".join(map(str, numbers)) + "}"
