"""Transfers between accounts, each in a transaction that completes its job, with faults between two statements.

`fault` happens once to a transfer, at the boundary number `at`. Boundaries are before and after each statement, and at
the end. An executor runs one transfer at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

import taskd
from taskd.store import transactions
from taskd.store.task_connections import SyncTaskConnection, TaskConnection

SCHEMA = """
    CREATE TABLE accounts (name text PRIMARY KEY, balance bigint NOT NULL);
    CREATE TABLE ledger (job bigint, attempt int, account text, amount bigint);
    INSERT INTO accounts VALUES ('a', 1000), ('b', 1000);
"""

app = taskd.App()


class Plan:
    """Fault of the running transfer, and its progress."""

    fault, at, seen = "", 0, 0
    job, attempt = 0, 0
    connection: Any = None


plan = Plan()


def boundary(connection: Any) -> None:
    """Count a boundary between two statements, and inject the planned fault."""
    plan.connection = connection
    plan.seen += 1
    if plan.seen == plan.at:
        note("STRIKES", plan.at)
        FAULTS[plan.fault]()


def note(file: str, number: int) -> None:
    """Append a line for the test in one write, since other executors write too."""
    line = f"{plan.job} {plan.attempt} {number}\n"
    with Path(os.environ[file]).open("ab", buffering=0) as notes:
        notes.write(line.encode())


def noted(file: Path) -> list[tuple[int, int, int]]:
    """Return the written lines as (job, attempt, number)."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(job), int(attempt), int(number)) for job, attempt, number in map(str.split, lines)]


def end_backend() -> None:
    pid = plan.connection.pgconn.backend_pid
    with psycopg.connect(os.environ["POSTGRES_DSN"], autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
        while other.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone() != (0,):
            time.sleep(0.01)


def cut() -> None:
    """Shut the connection down on both sides."""
    same = socket.socket(fileno=plan.connection.pgconn.socket)
    same.shutdown(socket.SHUT_RDWR)
    same.detach()


def kill_worker() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)  # the end of the worker ends this process


FAULTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "executor": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "worker": kill_worker,
    "backend": end_backend,
    "cut": cut,
}

_execute, _execute_sync = TaskConnection.execute, SyncTaskConnection.execute
_send, _send_sync = transactions.send, transactions.send_sync
_commit, _commit_sync = transactions.Transaction._commit, transactions.Transaction._commit_sync


async def execute(self: Any, *arguments: Any, **options: Any) -> Any:
    boundary(self)
    cursor = await _execute(self, *arguments, **options)
    boundary(self)
    return cursor


def execute_sync(self: Any, *arguments: Any, **options: Any) -> Any:
    boundary(self)
    cursor = _execute_sync(self, *arguments, **options)
    boundary(self)
    return cursor


async def send(connection: Any, query: str, named: Any = None) -> Any:
    boundary(connection)
    row = await _send(connection, query, named)
    boundary(connection)
    return row


def send_sync(connection: Any, query: str, named: Any = None) -> Any:
    if query not in (transactions.BEGIN, transactions.COMMIT):
        return _send_sync(connection, query, named)  # a query for the outcome of a transaction
    boundary(connection)
    row = _send_sync(connection, query, named)
    boundary(connection)
    return row


async def commit(self: Any, *arguments: Any) -> None:
    await _commit(self, *arguments)
    boundary(plan.connection)


def commit_sync(self: Any, *arguments: Any) -> None:
    _commit_sync(self, *arguments)
    boundary(plan.connection)


TaskConnection.execute = execute  # type: ignore[method-assign]
SyncTaskConnection.execute = execute_sync  # type: ignore[method-assign]
transactions.Transaction._commit = commit  # type: ignore[method-assign,assignment]
transactions.Transaction._commit_sync = commit_sync  # type: ignore[method-assign,assignment]
transactions.send, transactions.send_sync = send, send_sync


def begin(ctx: taskd.Context, fault: str, at: int) -> None:
    """Plan the fault of an attempt, unless an earlier attempt of the job had it already."""
    struck = any(job == ctx.job.id for job, *_ in noted(Path(os.environ["STRIKES"])))
    plan.job, plan.attempt = ctx.job.id, ctx.attempt
    plan.fault, plan.at, plan.seen = fault, (0 if struck else at), 0


TAKE = "UPDATE accounts SET balance = balance - %s WHERE name = 'a'"
GIVE = "UPDATE accounts SET balance = balance + %s WHERE name = 'b'"
BOOK = "INSERT INTO ledger VALUES (%s, %s, 'b', %s)"


@app.task(max_retries=5)
async def transfer(ctx: taskd.Context, amount: int, fault: str = "none", at: int = 0) -> int:
    begin(ctx, fault, at)
    async with ctx.transaction() as conn:
        await conn.execute(TAKE, [amount])
        await conn.execute(GIVE, [amount])
        await conn.execute(BOOK, [ctx.job.id, ctx.attempt, amount])
        await ctx.submit_in(conn, receipt, of=ctx.job.id)
        ctx.complete(amount)
    note("BOUNDARIES", plan.seen)
    return amount


@app.task(max_retries=5)
def transfer_sync(ctx: taskd.Context, amount: int, fault: str = "none", at: int = 0) -> int:
    begin(ctx, fault, at)
    with ctx.transaction_sync() as conn:
        conn.execute(TAKE, [amount])
        conn.execute(GIVE, [amount])
        conn.execute(BOOK, [ctx.job.id, ctx.attempt, amount])
        ctx.submit_in_sync(conn, receipt, of=ctx.job.id)
        ctx.complete(amount)
    note("BOUNDARIES", plan.seen)
    return amount


@app.task(max_retries=0)
def sleeps(ctx: taskd.Context) -> None:
    """Run a long statement in a plain function."""
    with ctx.transaction_sync() as conn:
        conn.execute(BOOK, [ctx.job.id, ctx.attempt, 0])
        conn.execute("SELECT pg_sleep(600)")


@app.task
def process() -> int:
    return os.getpid()


@app.task
def receipt(of: int) -> int:
    return of


@app.task(max_retries=0)
async def ends_badly(ctx: taskd.Context, how: str) -> int:
    """Complete the job in a transaction, and then return, raise, open another transaction or hang."""
    begin(ctx, "none", 0)
    async with ctx.transaction() as conn:
        await conn.execute(BOOK, [ctx.job.id, ctx.attempt, 0])
        ctx.complete(7)
    if how == "raise":
        raise RuntimeError("too late")
    if how == "again":
        async with ctx.transaction():
            raise AssertionError("a second transaction")
    if how == "hang":
        await asyncio.Event().wait()
    return 8


@app.task(max_retries=0)
async def rolls_back(ctx: taskd.Context, how: str) -> str:
    """Fail in a transaction, and complete the job in a second one of the same attempt."""
    begin(ctx, "none", 0)
    try:
        async with ctx.transaction() as conn:
            await conn.execute(BOOK, [ctx.job.id, ctx.attempt, 1])
            await spoil(ctx, conn, how)
    except Exception as error:
        async with ctx.transaction() as conn:
            await conn.execute(BOOK, [ctx.job.id, ctx.attempt, 100])
            ctx.complete(f"{type(error).__name__}: {error}".partition("\n")[0])
    return ""


async def spoil(ctx: taskd.Context, conn: psycopg.AsyncConnection[Any], how: str) -> None:
    match how:
        case "raise":
            raise KeyError("no")
        case "statement":
            await conn.execute("SELECT 1 / 0")
        case "swallow":
            with contextlib.suppress(psycopg.Error):
                await conn.execute("SELECT 1 / 0")
        case "deferred":
            await conn.execute("CREATE TEMP TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
            await conn.execute("INSERT INTO t VALUES (1), (1)")
        case "commit":
            await conn.commit()
        case "raw":
            await conn.execute("ROLLBACK")
        case "nested":
            async with ctx.transaction():
                pass
        case "result":
            ctx.complete({1, 2})
