"""Test the false clock of the fault tests on an unchanged PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.postgres import PostgresServer
from tests.chaos import clock

pytestmark = pytest.mark.skipif(clock.available() is not None, reason=str(clock.available()))

#: Seconds that a query may take on a busy machine; every jump here is much longer.
SLACK = 60.0


@pytest.fixture
def rc_file(private_folder: Path) -> Path:
    return private_folder / "clock"


@pytest.fixture
def server(server_binaries: Binaries, private_folder: Path, rc_file: Path) -> Iterator[PostgresServer]:
    with clock.postgres(server_binaries.postgres, private_folder, rc_file) as server:
        yield server


def ahead(connection: psycopg.Connection[tuple[float]]) -> float:
    """Return the seconds by which the backend's clock is ahead of this process's."""
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert row is not None
    return row[0] - time.time()


def test_a_running_backend_sees_each_jump(server: PostgresServer, rc_file: Path) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        assert abs(ahead(connection)) < SLACK
        for seconds in (3600.0, -7200.0, 0.0):
            clock.jump(rc_file, seconds)
            assert abs(ahead(connection) - seconds) < SLACK
            assert connection.execute("SELECT pg_sleep(0.01)").fetchone()  # a wait by the monotonic clock is unchanged
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        assert abs(ahead(connection)) < SLACK


def test_a_lock_time_out_fires_after_a_jump_forward_that_stays_behind(server: PostgresServer, rc_file: Path) -> None:
    clock.jump(rc_file, -86400)
    with psycopg.connect(server.dsn) as holder, psycopg.connect(server.dsn, autocommit=True) as waiter:
        holder.execute("SELECT pg_advisory_xact_lock(1)")
        waiter.execute("SET lock_timeout = '100ms'")
        clock.jump(rc_file, -3600)
        with pytest.raises(errors.LockNotAvailable):
            waiter.execute("SELECT pg_advisory_xact_lock(1)")
