"""Submitting on somebody's own connection to PostgreSQL: the job exists if and only if their transaction commits.

Connections are known by the names of their classes, so that nothing is imported that their owner has not imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple, NoReturn

from taskd.domain.errors import AccessDenied, InvalidJob, SchemaMismatch

STATEMENT = "SELECT s.id FROM taskd.submit_many(CAST(CAST({} AS text) AS json)) AS s"

#: SQLSTATEs: of a job that cannot be, of a payload that is too large; of what is missing; of a right that is missing.
_BAD, _MISSING, _DENIED = ("22023", "54000"), ("42883", "3F000"), "42501"
_KNOWN = (
    "connections of psycopg 3, SQLAlchemy (also sessions) and Django; with any other, call taskd.submit_many in SQL"
)


class Library(Enum):
    """Whose connection it is."""

    PSYCOPG = "psycopg"
    SQLALCHEMY = "sqlalchemy"
    DJANGO = "django"


class Kind(NamedTuple):
    """What is known of a connection by its class."""

    library: Library
    asynchronous: bool


def kind_of(connection: Any) -> Kind:
    """What this is. Raises TypeError for what is none of the connections we know."""
    for one in type(connection).__mro__:
        module, name = one.__module__, one.__name__
        if module.partition(".")[0] == "psycopg" and name in ("Connection", "AsyncConnection"):
            return Kind(Library.PSYCOPG, name.startswith("Async"))
        if module.startswith("sqlalchemy.ext.asyncio") and name in (
            "AsyncConnection",
            "AsyncSession",
            "async_scoped_session",
        ):
            return Kind(Library.SQLALCHEMY, asynchronous=True)
        if module.startswith("sqlalchemy.") and name in ("Connection", "Session", "scoped_session"):
            return Kind(Library.SQLALCHEMY, asynchronous=False)
        if module.startswith("django.") and name in ("BaseDatabaseWrapper", "ConnectionProxy"):
            return Kind(Library.DJANGO, asynchronous=False)
    raise TypeError(f"submit_in knows {_KNOWN}; this is {type(connection).__module__}.{type(connection).__name__}")


async def store(connection: Any, jobs: Sequence[bytes]) -> list[int]:
    """Store the jobs (JSON, as POST /jobs takes them); their ids. Raises TypeError, InvalidJob, and the driver's errors."""
    kind = kind_of(connection)
    if not kind.asynchronous:
        raise TypeError(f"this connection blocks ({_name(connection)}): use submit_in_sync")
    document = _together(jobs)
    try:
        if kind.library is Library.PSYCOPG:
            return _ids(await _psycopg(connection, document))
        _check_dialect(connection)
        return _ids((await connection.execute(*_text(document))).all())
    except Exception as error:  # noqa: BLE001 - drivers have no common one
        _refuse(error)


def store_sync(connection: Any, jobs: Sequence[bytes]) -> list[int]:
    """As `store`, for connections that block."""
    kind = kind_of(connection)
    if kind.asynchronous:
        raise TypeError(f"this connection is asynchronous ({_name(connection)}): await submit_in")
    document = _together(jobs)
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
    # Cursors of the plain kind, whatever the connection itself would make.
    from psycopg import AsyncCursor  # noqa: PLC0415 - whoever has such a connection has imported it
    from psycopg.rows import tuple_row  # noqa: PLC0415

    async with AsyncCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(STATEMENT.format("%s").encode(), [_fitting(connection, document)])
        return await cursor.fetchall()


def _psycopg_sync(connection: Any, document: str) -> list[Any]:
    from psycopg import Cursor  # noqa: PLC0415
    from psycopg.rows import tuple_row  # noqa: PLC0415

    with Cursor(connection, row_factory=tuple_row) as cursor:
        return cursor.execute(STATEMENT.format("%s").encode(), [_fitting(connection, document)]).fetchall()


def _fitting(connection: Any, document: str) -> str:
    """Return the JSON in characters that the connection's encoding has; outside of UTF-8 only ASCII is certain."""
    if connection.info.encoding == "utf-8":
        return document
    return re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], document)


def _django(connection: Any, document: str) -> list[Any]:
    if connection.vendor != "postgresql":
        raise _no_postgresql(connection.vendor)
    with connection.cursor() as cursor:
        cursor.execute(STATEMENT.format("%s"), [document])
        return list(cursor.fetchall())


def _text(document: str) -> tuple[Any, dict[str, str]]:
    from sqlalchemy import text  # noqa: PLC0415 - whoever has such a connection has imported it

    return text(STATEMENT.format(":jobs")), {"jobs": document}


def _check_dialect(connection: Any) -> None:
    bound = connection.get_bind() if hasattr(connection, "get_bind") else connection
    if bound.dialect.name != "postgresql":
        raise _no_postgresql(bound.dialect.name)


def _no_postgresql(name: str) -> TypeError:
    return TypeError(f"a job is submitted in PostgreSQL, and this connection leads to {name}")


def _together(jobs: Sequence[bytes]) -> str:
    return (b"[%b]" % b",".join(jobs)).decode()


def _ids(rows: Sequence[Any]) -> list[int]:
    return [row[0] for row in rows]


def _name(connection: Any) -> str:
    return f"{type(connection).__module__.partition('.')[0]}'s {type(connection).__name__}"


def _refuse(error: Exception) -> NoReturn:
    """Raise what our own function has said in our words, and anything else as it is."""
    state, text = _said(error)
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


def _said(error: BaseException) -> tuple[str, str]:
    """The SQLSTATE and the words of PostgreSQL, which SQLAlchemy and Django wrap up."""
    found: BaseException | None = error
    while found is not None:
        state = getattr(found, "sqlstate", None) or getattr(found, "pgcode", None)
        if isinstance(state, str):
            return state, str(found)
        found = getattr(found, "orig", None) or found.__cause__
    return "", ""
