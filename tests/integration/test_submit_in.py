"""Test submit_in with psycopg, SQLAlchemy and Django: a job exists if and only if its transaction commits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

import taskd
from taskd.domain.errors import AccessDenied, SchemaMismatch

app = taskd.App()


@app.task(queue="mails", priority=3)
def mail(to: str, lines: int = 1) -> str:
    return to * lines


@app.task
async def parcel(ctx: taskd.Context, to: str) -> str:
    return to


class Undo(Exception):
    """Rolls a transaction back."""


def undo(transaction: AbstractContextManager[Any], connection: Any) -> None:
    with transaction:
        mail.submit_in_sync(connection, "nobody")
        raise Undo


async def undo_async(transaction: AbstractAsyncContextManager[Any], connection: Any) -> None:
    async with transaction:
        await mail.submit_in(connection, "nobody")
        raise Undo


async def bad_async(transaction: AbstractAsyncContextManager[Any], connection: Any) -> None:
    async with transaction:
        await mail.submit_in(connection, "nobody\0")


@dataclass
class Blocking:
    """Connection, with its library's ways to open a transaction and a savepoint."""

    connection: Any
    transaction: Callable[[], AbstractContextManager[Any]]
    savepoint: Callable[[], AbstractContextManager[Any]]


@dataclass
class Asynchronous:
    """The same for a library with an event loop."""

    connection: Any
    transaction: Callable[[], AbstractAsyncContextManager[Any]]
    savepoint: Callable[[], AbstractAsyncContextManager[Any]]


def url(dsn: str, driver: str) -> str:
    return dsn.replace("postgresql://", f"postgresql+{driver}://", 1)


@contextmanager
def psycopg_blocking(dsn: str) -> Iterator[Blocking]:
    # Its row factory and adapters do not matter.
    with psycopg.connect(dsn, row_factory=dict_row, cursor_factory=psycopg.RawCursor, autocommit=True) as connection:
        yield Blocking(connection, connection.transaction, connection.transaction)


@contextmanager
def sqlalchemy_connection(dsn: str) -> Iterator[Blocking]:
    engine = create_engine(url(dsn, "psycopg"))
    with engine.connect() as connection:
        yield Blocking(connection, connection.begin, connection.begin_nested)
    engine.dispose()


@contextmanager
def sqlalchemy_session(dsn: str) -> Iterator[Blocking]:
    engine = create_engine(url(dsn, "psycopg"))
    with Session(engine) as session:
        yield Blocking(session, session.begin, session.begin_nested)
    engine.dispose()


@contextmanager
def sqlalchemy_scoped(dsn: str) -> Iterator[Blocking]:
    engine = create_engine(url(dsn, "psycopg"))
    session = scoped_session(sessionmaker(engine))
    yield Blocking(session, session.begin, session.begin_nested)
    session.remove()
    engine.dispose()


@asynccontextmanager
async def psycopg_async(dsn: str) -> AsyncIterator[Asynchronous]:
    async with await psycopg.AsyncConnection.connect(dsn, row_factory=dict_row, autocommit=True) as connection:
        yield Asynchronous(connection, connection.transaction, connection.transaction)


@asynccontextmanager
async def sqlalchemy_async(dsn: str, driver: str, kind: Any) -> AsyncIterator[Asynchronous]:
    engine = create_async_engine(url(dsn, driver))
    async with engine.connect() if kind is AsyncConnection else AsyncSession(engine) as connection:
        yield Asynchronous(connection, connection.begin, connection.begin_nested)
    await engine.dispose()


BLOCKING = [psycopg_blocking, sqlalchemy_connection, sqlalchemy_session, sqlalchemy_scoped]
ASYNCHRONOUS = {
    "psycopg": psycopg_async,
    "sqlalchemy-psycopg": lambda dsn: sqlalchemy_async(dsn, "psycopg", AsyncConnection),
    "sqlalchemy-session": lambda dsn: sqlalchemy_async(dsn, "psycopg", AsyncSession),
    "sqlalchemy-asyncpg": lambda dsn: sqlalchemy_async(dsn, "asyncpg", AsyncConnection),
    "sqlalchemy-asyncpg-session": lambda dsn: sqlalchemy_async(dsn, "asyncpg", AsyncSession),
}


def jobs(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT id, task, queue, priority, payload FROM taskd.jobs ORDER BY id").fetchall()
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("opened", BLOCKING)
def test_on_a_connection_that_blocks(postgres_dsn: str, opened: Callable[[str], Any]) -> None:
    with opened(postgres_dsn) as library:
        with library.transaction():
            first = mail.submit_in_sync(library.connection, "ada", lines=2)
            assert jobs(postgres_dsn) == []
        with pytest.raises(Undo):
            undo(library.transaction(), library.connection)
        with library.transaction():
            with pytest.raises(Undo):
                undo(library.savepoint(), library.connection)
            second = app.submit_in_sync(library.connection, parcel, to="alan")
            keyed = mail.options(dedupe_key="k", priority=9)
            third = keyed.submit_in_sync(library.connection, "grace")
            assert keyed.submit_in_sync(library.connection, "somebody").id == third.id
            many = mail.submit_many_in_sync(library.connection, ({"to": str(n)} for n in range(3)))
            assert mail.submit_many_in_sync(library.connection, []) == []
    assert jobs(postgres_dsn) == [
        (first.id, "mail", "mails", 3, {"to": "ada", "lines": 2}),
        (second.id, "parcel", "default", 0, {"to": "alan"}),
        (third.id, "mail", "mails", 9, {"to": "grace"}),
        *((handle.id, "mail", "mails", 3, {"to": str(n)}) for n, handle in enumerate(many)),
    ]


@pytest.mark.parametrize("opened", BLOCKING)
def test_bad_input_is_a_clear_error_on_a_connection_that_blocks(
    postgres_dsn: str, opened: Callable[[str], Any]
) -> None:
    with opened(postgres_dsn) as library:
        with library.transaction():
            with pytest.raises(TypeError, match="widht"):  # no statement was sent, and the transaction continues
                mail.submit_in_sync(library.connection, "ada", widht=1)  # type: ignore[call-arg]
            with pytest.raises(taskd.InvalidJob, match=r"^priority: must be a whole number from 0 to 100, not 101$"):
                mail.options(priority=101)
            with pytest.raises(taskd.InvalidJob, match="PostgreSQL cannot store it"), library.savepoint():
                mail.submit_in_sync(library.connection, "a\0b")
            mail.submit_in_sync(library.connection, "alan")
        assert len(jobs(postgres_dsn)) == 1
        with pytest.raises(taskd.InvalidJob, match="PostgreSQL cannot store it"), library.transaction():
            mail.submit_many_in_sync(library.connection, [{"to": "a"}, {"to": "b\0"}])
        with pytest.raises(ValueError, match="one dedupe_key"):
            mail.options(dedupe_key="k").submit_many_in_sync(library.connection, [{"to": "a"}])


@pytest.mark.parametrize("opened", ASYNCHRONOUS.values(), ids=ASYNCHRONOUS)
async def test_on_an_event_loop(postgres_dsn: str, opened: Callable[[str], Any]) -> None:
    async with opened(postgres_dsn) as library:
        async with library.transaction():
            first = await mail.submit_in(library.connection, "ada", lines=2)
            assert jobs(postgres_dsn) == []
        with pytest.raises(Undo):
            await undo_async(library.transaction(), library.connection)
        async with library.transaction():
            with pytest.raises(Undo):
                await undo_async(library.savepoint(), library.connection)
            with pytest.raises(taskd.InvalidJob, match="PostgreSQL cannot store it"):
                await bad_async(library.savepoint(), library.connection)
            second = await app.submit_in(library.connection, parcel, to="alan")
            keyed = mail.options(dedupe_key="k", metadata={"a": "ü"})
            third = await keyed.submit_in(library.connection, "grace")
            assert (await keyed.submit_in(library.connection, "somebody")).id == third.id
            many = await mail.submit_many_in(library.connection, ({"to": str(n)} for n in range(3)))
    assert [row[0] for row in jobs(postgres_dsn)] == [first.id, second.id, third.id, *(handle.id for handle in many)]


PROGRAM = """
import sys
from urllib.parse import urlsplit
import django
from django.conf import settings
parts = urlsplit(sys.argv[1])
settings.configure(DATABASES={
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": parts.path[1:], "USER": parts.username,
                "HOST": parts.hostname, "PORT": parts.port},
    "lite": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
django.setup()
from django.db import connection, connections, transaction
import taskd
from tests.integration.test_submit_in import Undo, mail
with transaction.atomic():
    mail.submit_in_sync(connection, "committed")
try:
    with transaction.atomic():
        mail.submit_in_sync(connection, "rolled back")
        raise Undo
except Undo:
    pass
with transaction.atomic():
    try:
        with transaction.atomic():
            mail.submit_in_sync(connection, "savepoint")
            raise Undo
    except Undo:
        pass
    try:
        with transaction.atomic():
            mail.submit_in_sync(connections["default"], "bad\\0")
    except taskd.InvalidJob as error:
        print(error)
    keyed = mail.options(dedupe_key="k")
    assert keyed.submit_in_sync(connection, "key").id == keyed.submit_in_sync(connection, "again").id
mail.submit_in_sync(connection, "autocommit")
try:
    mail.submit_in_sync(connections["lite"], "elsewhere")
except TypeError as error:
    print(error)
"""


def test_on_a_connection_of_django(postgres_dsn: str) -> None:
    command = [sys.executable, "-c", PROGRAM, postgres_dsn]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=os.environ | path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "jobs[0]: PostgreSQL cannot store it: unsupported Unicode escape sequence",
        "a job is submitted in PostgreSQL, and this connection leads to sqlite",
    ]
    assert [row[4]["to"] for row in jobs(postgres_dsn)] == ["committed", "key", "autocommit"]


async def test_the_wrong_kind_of_connection_is_refused_with_the_right_call(postgres_dsn: str) -> None:
    with (
        psycopg.connect(postgres_dsn) as blocking,
        pytest.raises(TypeError, match=r"this connection blocks \(psycopg's Connection\): use submit_in_sync"),
    ):
        await mail.submit_in(blocking, "ada")
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        with pytest.raises(TypeError, match=r"asynchronous .* await submit_in"):
            mail.submit_in_sync(connection, "ada")
    with pytest.raises(TypeError, match=r"submit_in knows connections of psycopg 3, .* this is builtins.str"):
        mail.submit_in_sync(postgres_dsn, "ada")
    engine = create_engine("sqlite://")
    with engine.connect() as lite, pytest.raises(TypeError, match="this connection leads to sqlite"):
        mail.submit_in_sync(lite, "ada")
    engine.dispose()


def test_a_database_without_taskd_and_a_role_without_rights_get_the_repair(postgres_dsn: str) -> None:
    other = urlsplit(postgres_dsn)._replace(path="/postgres").geturl()
    with psycopg.connect(other) as connection, pytest.raises(SchemaMismatch, match="run `taskd migrate`"):
        mail.submit_in_sync(connection, "ada")
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("CREATE ROLE submit_in_nobody")
        connection.execute("SET ROLE submit_in_nobody")
        with pytest.raises(AccessDenied, match="GRANT USAGE ON SCHEMA taskd"):
            mail.submit_in_sync(connection, "ada")


def test_what_postgresql_says_otherwise_is_the_drivers_own_error(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1 / 0")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            mail.submit_in_sync(connection, "ada")


def test_nothing_of_the_libraries_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys, taskd; taskd.App(); print([m for m in ('sqlalchemy', 'django', 'psycopg') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_in_a_test_children_are_only_written_down(postgres_dsn: str) -> None:
    own_app = taskd.App()

    @own_app.task
    def parent(ctx: taskd.Context) -> int:
        with ctx.transaction_sync() as connection:
            connection.execute("CREATE TABLE t ()")
            ctx.submit_in_sync(connection, mail, "ada")
            ctx.complete(5)
        return 6

    with psycopg.connect(postgres_dsn) as connection:
        run = own_app.testing(connection=connection).run_sync(parent)
        connection.rollback()
        assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)
    assert (run.result, [child.task for child in run.children]) == (5, ["mail"])
    assert jobs(postgres_dsn) == []
    with pytest.raises(RuntimeError, match=r"app.testing\(connection=conn\)"):
        _ = own_app.testing().run_sync(parent).result


def test_text_of_sqlalchemy_is_not_disturbed(postgres_dsn: str) -> None:
    """Test that colons and percent signs in arguments are data."""
    with sqlalchemy_connection(postgres_dsn) as library, library.transaction():
        mail.submit_in_sync(library.connection, "a:b %s %(c)s :d {e}")
        library.connection.execute(text("SELECT 1"))
    assert [row[4]["to"] for row in jobs(postgres_dsn)] == ["a:b %s %(c)s :d {e}"]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "UTF8"])
async def test_any_text_is_submitted_in_any_encoding(postgres_dsn: str, encoding: str) -> None:
    name = "ž🐎\\"
    with psycopg.connect(postgres_dsn, client_encoding=encoding) as connection:
        mail.submit_in_sync(connection, name)
    async with await psycopg.AsyncConnection.connect(postgres_dsn, client_encoding=encoding) as asynchronous:
        await mail.submit_in(asynchronous, name)
    with psycopg.connect(postgres_dsn) as connection:
        stored = connection.execute("SELECT payload->>'to' FROM taskd.jobs").fetchall()
    assert stored == [(name,), (name,)]
