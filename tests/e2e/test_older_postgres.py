"""Test that a cluster starts, leads and runs jobs on each installed older version of PostgreSQL.

Debian's packages (apt install postgresql) put them into /usr/lib/postgresql. The test is left out if none is there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from taskd.dev.servers.postgres import PostgresServer
from taskd.store.migrations import migrate
from taskd.store.schema import schema
from tests.e2e.fleet import Fleet, batch

#: The oldest version that taskd supports.
OLDEST = 14
WRITTEN = (Path(__file__).parents[2] / "migrations" / "schema.sql").read_text("utf-8")
FOUND = [
    folder
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if int(folder.parent.name) >= OLDEST and (folder / "initdb").exists()
]


@pytest.mark.skipif(not FOUND, reason="left out: no other PostgreSQL is installed")
@pytest.mark.parametrize("binaries", FOUND, ids=lambda folder: folder.parent.name)
def test_a_cluster_begins_and_works(binaries: Path, private_folder: Path, make_fleet: Callable[..., Fleet]) -> None:
    server = PostgresServer(binaries, private_folder / "postgres", log=private_folder / "postgres.log")
    server.start()
    try:
        with psycopg.connect(server.dsn) as connection:
            assert str(connection.info.server_version // 10000) == binaries.parent.name
        migrate(server.dsn)
        assert schema(server.dsn) == WRITTEN
        fleet = make_fleet(dsn=server.dsn)
        scheduler = fleet.start_scheduler("s1")
        fleet.start_worker("w1")
        client = fleet.client(scheduler)
        ids = batch(client, "rest", [0.01] * 20)
        fleet.wait_completed(ids)
        status = fleet.taskd(scheduler, "status")
        assert status.returncode == 0, status.stdout
        fleet.stop()
    finally:
        server.kill()
