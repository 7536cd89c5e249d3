"""The schema that is written down for readers is that of the migrations, and complete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from taskd.store.schema import schema
from tests.servers import SharedServers

WRITTEN = (Path(__file__).parents[2] / "migrations" / "schema.sql").read_text("utf-8")


@pytest.fixture
def empty_dsn(servers: SharedServers) -> Iterator[str]:
    dsn = servers.empty_database()
    yield dsn
    servers.drop_database(dsn)


def test_the_schema_that_is_written_down_is_that_of_the_migrations(postgres_dsn: str) -> None:
    assert schema(postgres_dsn) == WRITTEN, "run `make schema`"


def test_the_schema_that_is_written_down_makes_an_equal_one(empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(WRITTEN.encode())
    assert schema(empty_dsn) == WRITTEN


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE taskd.jobs ADD COLUMN extra text",
        "ALTER TABLE taskd.jobs ALTER COLUMN losses DROP DEFAULT",
        "ALTER TABLE taskd.jobs DROP CONSTRAINT queued_since",
        "ALTER TABLE taskd.jobs SET (fillfactor = 90)",
        "DROP INDEX taskd.fires_by_age",
        "DROP SEQUENCE taskd.job_ids",
        "DROP FUNCTION taskd.fate_of",
        "GRANT EXECUTE ON FUNCTION taskd.fate_of TO PUBLIC",
        "ALTER FUNCTION taskd.fate_of RESET jit",
    ],
)
def test_a_change_of_the_schema_is_seen(postgres_dsn: str, change: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(change.encode())
    assert schema(postgres_dsn) != WRITTEN
