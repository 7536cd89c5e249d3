"""Submits on a connection of the caller's: the job exists if and only if the transaction there commits.

The driver is recognised by the names of the connection's classes, so that taskd imports no driver that the caller has not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple, NoReturn

from taskd.domain.errors import AccessDenied, InvalidJob, SchemaMismatch

STATEMENT = "SELECT s.id FROM taskd.submit_many(CAST(CAST({} AS text) AS json)) AS s"

#: SQLSTATEs: an invalid job, and a payload that is too large; a missing function or schema; a missing right.
_BAD, _MISSING, _DENIED = ("22023", "54000"), ("42883", "3F000"), "42501"
_KNOWN = (
    "connections of psycopg 3, SQLAlchemy (also sessions) and Django; with any other, call taskd.submit_many in SQL"
)


class Library(Enum):
    """The library that a connection belongs to."""

    PSYCOPG = "psycopg"
    SQLALCHEMY = "sqlalchemy"
    DJANGO = "django"


class ConnectionKind(NamedTuple):
    """The kind of a connection, by its class."""

    library: Library
    asynchronous: bool


def kind_of(connection: Any) -> ConnectionKind:
    """Return the kind of a connection. Raises TypeError for an object that is no connection of a known library."""
    for base in type(connection).__mro__:
        module, name = base.__module__, base.__name__
        if module.partition(".")[0] == "psycopg" and name in ("Connection", "AsyncConnection"):
            return ConnectionKind(Library.PSYCOPG, name.startswith("Async"))
        if module.startswith("sqlalchemy.ext.asyncio") and name in (
            "AsyncConnection",
            "AsyncSession",
            "async_scoped_session",
        ):
            return ConnectionKind(Library.SQLALCHEMY, asynchronous=True)
        if module.startswith("sqlalchemy.") and name in ("Connection", "Session", "scoped_session"):
            return ConnectionKind(Library.SQLALCHEMY, asynchronous=False)
        if module.startswith("django.") and name in ("BaseDatabaseWrapper", "ConnectionProxy"):
            return ConnectionKind(Library.DJANGO, asynchronous=False)
    raise TypeError(f"submit_in knows {_KNOWN}; this is {type(connection).__module__}.{type(connection).__name__}")


async def store(connection: Any, jobs: Sequence[bytes]) -> list[int]:
    """Store the jobs (JSON, as POST /jobs takes them) and return their ids.

    Raises TypeError for a connection of the wrong kind, InvalidJob, and the driver's errors.
    """
    kind = kind_of(connection)
    if not kind.asynchronous:
        raise TypeError(f"this connection blocks ({_name(connection)}): use submit_in_sync")
    document = _batch(jobs)
    try:
        if kind.library is Library.PSYCOPG:
            return _ids(await _psycopg(connection, document))
        _check_dialect(connection)
        return _ids((await connection.execute(*_text(document))).all())
    except Exception as error:  # noqa: BLE001 - drivers have no common base class
        _refuse(error)


def store_sync(connection: Any, jobs: Sequence[bytes]) -> list[int]:
    """Store the jobs on a connection that blocks: as `store`."""
    kind = kind_of(connection)
    if kind.asynchronous:
        raise TypeError(f"this connection is asynchronous ({_name(connection)}): await submit_in")
    document = _batch(jobs)
    try:
        if kind.library is Library.PSYCOPG:
            return _ids(_psycopg_sync(connection, document))
        if kind.library is Library.DJANGO:
            return _ids(_django(connection, document))
        _check_dialect(connection)
        return _ids(connection.execute(*_text(document)).all())
    except Exception as error:  # noqa: BLE001 - as above
        _refuse(error)


async def _psycopg(connection: Any, document: str) -> list[Any]:
    # Plain cursors, whatever class of cursors the connection has.
    from psycopg import AsyncCursor  # noqa: PLC0415 - a caller with such a connection has imported it
    from psycopg.rows import tuple_row  # noqa: PLC0415

    async with AsyncCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(STATEMENT.format("%s").encode(), [_encodable(connection, document)])
        return await cursor.fetchall()


def _psycopg_sync(connection: Any, document: str) -> list[Any]:
    from psycopg import Cursor  # noqa: PLC0415
    from psycopg.rows import tuple_row  # noqa: PLC0415

    with Cursor(connection, row_factory=tuple_row) as cursor:
        return cursor.execute(STATEMENT.format("%s").encode(), [_encodable(connection, document)]).fetchall()


def _encodable(connection: Any, document: str) -> str:
    """Return the JSON in characters that the connection's encoding has: without UTF-8 only ASCII is certain."""
    if connection.info.encoding == "utf-8":
        return document
    return re.sub(r"[^\x00-\x7f]", lambda match: json.dumps(match[0])[1:-1], document)


def _django(connection: Any, document: str) -> list[Any]:
    if connection.vendor != "postgresql":
        raise _no_postgresql(connection.vendor)
    with connection.cursor() as cursor:
        cursor.execute(STATEMENT.format("%s"), [document])
        return list(cursor.fetchall())


def _text(document: str) -> tuple[Any, dict[str, str]]:
    from sqlalchemy import text  # noqa: PLC0415 - a caller with such a connection has imported it

    return text(STATEMENT.format(":jobs")), {"jobs": document}


def _check_dialect(connection: Any) -> None:
    bound = connection.get_bind() if hasattr(connection, "get_bind") else connection
    if bound.dialect.name != "postgresql":
        raise _no_postgresql(bound.dialect.name)


def _no_postgresql(name: str) -> TypeError:
    return TypeError(f"a job is submitted in PostgreSQL, and this connection leads to {name}")


def _batch(jobs: Sequence[bytes]) -> str:
    return (b"[%b]" % b",".join(jobs)).decode()


def _ids(rows: Sequence[Any]) -> list[int]:
    return [row[0] for row in rows]


def _name(connection: Any) -> str:
    return f"{type(connection).__module__.partition('.')[0]}'s {type(connection).__name__}"


def _refuse(error: Exception) -> NoReturn:
    """Raise taskd's own error for what its SQL function has refused; raise any other error as it is."""
    state, text = _sqlstate(error)
    if state in _BAD and "taskd: " in text:
        raise InvalidJob(text.partition("taskd: ")[2].splitlines()[0]) from error
    if state in _MISSING and "taskd" in text:
        raise SchemaMismatch(
            "this database has no taskd to submit to: connect to that of POSTGRES_DSN, and run `taskd migrate` there"
        ) from error
    if state == _DENIED and "taskd" in text:
        raise AccessDenied(
            "this role may not submit jobs: GRANT USAGE ON SCHEMA taskd and EXECUTE ON FUNCTION taskd.submit_many to it"
        ) from error
    raise error


def _sqlstate(error: BaseException) -> tuple[str, str]:
    """Return the SQLSTATE and the message of PostgreSQL, which SQLAlchemy and Django wrap in errors of their own."""
    cause: BaseException | None = error
    while cause is not None:
        state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        if isinstance(state, str):
            return state, str(cause)
        cause = getattr(cause, "orig", None) or cause.__cause__
    return "", ""
