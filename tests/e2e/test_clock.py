"""Test that no worker loses a job when PostgreSQL's clock jumps ahead and every lease seems to have expired."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.postgres import PostgresServer
from taskd.store.migrations import migrate
from tests.chaos import clock
from tests.e2e.fleet import Fleet, batch

pytestmark = pytest.mark.skipif(clock.available() is not None, reason=str(clock.available()))

#: Seconds of the false clock against the true time, before and after the jump.
BEHIND, LESS = -7200.0, -60.0


@pytest.fixture
def rc_file(private_folder: Path) -> Path:
    clock.jump(private_folder / "clock", BEHIND)
    return private_folder / "clock"


@pytest.fixture
def postgres(server_binaries: Binaries, private_folder: Path, rc_file: Path) -> Iterator[PostgresServer]:
    with clock.postgres(server_binaries.postgres, private_folder, rc_file) as server:
        migrate(server.dsn)
        yield server


def test_no_worker_is_lost_when_the_clock_jumps_ahead(
    make_fleet: Callable[..., Fleet], postgres: PostgresServer, rc_file: Path
) -> None:
    fleet = make_fleet(dsn=postgres.dsn)
    scheduler = fleet.start_scheduler("s1")
    for name in ("w1", "w2"):
        fleet.start_worker(name)
    fleet.leader([scheduler])
    client = fleet.client(scheduler)
    # By its end the leader's initial grace (6 s) is over, and it looks for expired sessions.
    first = batch(client, "nap", [{"seconds": 8}])
    ids = batch(client, "nap", [{"seconds": 16}] * 10)
    fleet.wait_completed(first)
    clock.jump(rc_file, LESS)
    more = batch(client, "nap", [{"seconds": 0.1}] * 10)
    fleet.wait_completed([*ids, *more], 60)
    assert {client.job(job)["attempt"] for job in ids} == {1}
    assert "clock jumped ahead" in scheduler.output
