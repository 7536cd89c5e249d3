"""The schema's migrations: numbered files, each applied once, in its own transaction, under one advisory lock.

A released file is never edited: its sha256 is stored beside its name and compared. A program refuses a schema that is older
than its files (run `taskd migrate`) or newer (upgrade the program).

Files in `optional/` are of another kind: applied on demand, idempotent, and recorded in no table. No program needs them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from taskd.domain.errors import AccessDenied, ConfigurationError, SchemaMismatch, StoreUnavailable
from taskd.store.pinned import ENCODING, remaining, startup

_LOCK = 7_461_736_364  # any number, as long as every taskd uses the same one

#: The refusal of a migration through a pooler: its advisory lock belongs to a session.
POOLED = (
    "migrations need PostgreSQL itself, not a pooler: run `taskd migrate` with its own POSTGRES_DSN and without pooled"
)

#: Refusals of a connection for which waiting does not help, by their texts (there is no SQLSTATE then), and what helps.
_REFUSALS = {
    "password authentication failed": "correct the user name and the password in POSTGRES_DSN",
    "no password supplied": "put the password into POSTGRES_DSN, or name a file with it in PGPASSFILE",
    "no pg_hba.conf entry": "allow this host, user and database in the server's pg_hba.conf",
    "pg_hba.conf rejects": "allow this host, user and database in the server's pg_hba.conf",
    "requires a valid client certificate": "give sslcert and sslkey in POSTGRES_DSN",
    "certificate authentication failed": "give a client certificate for this user (sslcert, sslkey) in POSTGRES_DSN",
    "authentication failed": "use a user of POSTGRES_DSN that the server's pg_hba.conf lets in this way",
    "not permitted to log in": "use a role with LOGIN in POSTGRES_DSN",
    "permission denied for database": "GRANT CONNECT ON DATABASE to the user of POSTGRES_DSN",
}
_MISSING = {"role": "make it (createuser), or correct the user name in POSTGRES_DSN",
            "database": "make it (createdb), or correct its name in POSTGRES_DSN"}  # fmt: skip

_PREPARE = """
    CREATE SCHEMA IF NOT EXISTS taskd;
    CREATE TABLE IF NOT EXISTS taskd.migrations (
        name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp());
"""


class Migration(NamedTuple):
    """One file of a migration."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Return the checksum that is stored beside its name."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def available() -> list[Migration]:
    """Return the migrations that come with this program, in order."""
    folder = _folder()
    migrations = [Migration(f.stem, f.read_text("utf-8")) for f in sorted(folder.glob("[0-9]*.sql"))]
    if not migrations:
        raise SchemaMismatch(f"no migrations in {folder}: this installation of taskd is broken, install it again")
    return migrations


def migrate(dsn: str) -> list[str]:
    """Bring the schema up to date; return the names of the migrations that were applied.

    Raises SchemaMismatch if the database's migrations are not these, StoreUnavailable if it cannot be reached.
    """
    with _connect_pinned(dsn) as connection:
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            with connection.transaction():
                connection.execute(_PREPARE)
            applied = []
            for migration in _missing(connection):
                with connection.transaction():
                    connection.execute(migration.text)
                    connection.execute(
                        "INSERT INTO taskd.migrations (name, sha256) VALUES (%s, %s)",
                        [migration.name, migration.sha256],
                    )
                applied.append(migration.name)
        except psycopg.Error as error:
            raise SchemaMismatch(f"a migration failed and was rolled back: {error}") from error
        else:
            return applied


def apply_audit(dsn: str) -> None:
    """Add the audit trail to a schema that is up to date, or bring it up to date. Raises as `migrate` does."""
    text = (_folder() / "optional" / "audit.sql").read_text("utf-8")
    with _connect_pinned(dsn) as connection:
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            with connection.transaction():
                connection.execute(text)
        except psycopg.Error as error:
            raise SchemaMismatch(f"the audit trail was not added: {error}") from error


def pending(dsn: str, *, pooled: bool = False) -> list[str]:
    """Return the names of the migrations that `migrate` would apply. Raises as `migrate` does.

    `pooled` means that a pooler answers at `dsn`.
    """
    with _connect(dsn) if pooled else _connect_pinned(dsn) as connection:
        return [m.name for m in _missing(connection)]


def _folder() -> Path:
    packaged = Path(str(files("taskd"))) / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "migrations"


def _connect_pinned(dsn: str) -> psycopg.Connection[tuple[object, ...]]:
    """Connect to PostgreSQL itself: a pooler takes no settings."""
    connection = _connect(dsn, startup())
    if left := remaining(connection.info.server_version):
        connection.execute(left.encode())
    return connection


def _connect(dsn: str, settings: Mapping[str, Any] = ENCODING) -> psycopg.Connection[tuple[object, ...]]:
    try:
        connection = psycopg.connect(
            dsn, autocommit=True, connect_timeout=5, application_name="taskd:migrate", **settings
        )
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(f"POSTGRES_DSN is no connection string: {str(error).strip()}") from None
    except psycopg.Error as error:
        line = str(error).strip().splitlines()[0]
        if (advice := _advice(line)) is not None:
            raise AccessDenied(f"PostgreSQL denies access ({line})", advice) from None
        raise StoreUnavailable(f"PostgreSQL: {line}") from error
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        connection.close()
        raise ConfigurationError(
            f"the database has the encoding {encoding}, in which not every payload can be kept: make one with UTF8"
            " (createdb --encoding=UTF8 --template=template0)"
        )
    return connection


def _advice(line: str) -> str | None:
    """Return what to do about a refusal; None if the line is of a server that cannot be reached."""
    if "does not exist" in line:
        return next((advice for kind, advice in _MISSING.items() if f'{kind} "' in line), "correct POSTGRES_DSN")
    return next((advice for sign, advice in _REFUSALS.items() if sign in line), None)


def _missing(connection: psycopg.Connection[tuple[object, ...]]) -> list[Migration]:
    known = connection.execute("SELECT to_regclass('taskd.migrations') IS NOT NULL").fetchone()
    rows = connection.execute("SELECT name, sha256 FROM taskd.migrations").fetchall() if known and known[0] else []
    applied = {str(name): str(sha256) for name, sha256 in rows}
    ours = available()
    newer = sorted(applied.keys() - {m.name for m in ours})
    if newer:
        raise SchemaMismatch(f"the database's schema is newer than this taskd ({newer[-1]}): upgrade taskd")
    for migration in ours:
        if applied.get(migration.name, migration.sha256) != migration.sha256:
            raise SchemaMismatch(
                f"migration {migration.name} was changed after it was applied: install the released taskd again"
            )
    return [m for m in ours if m.name not in applied]
