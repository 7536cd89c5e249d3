"""Test the embedded servers: they start, die, restart, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import psycopg
import pytest

from taskd.dev.process import identity
from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.postgres import PostgresServer
from taskd.dev.servers.server import ServerFailed
from taskd.dev.servers.servers import Servers
from taskd.dev.servers.valkey import RedisServer
from tests.servers import wait_until


def test_a_cloned_database_has_the_schema(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        tables = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'"
        ).fetchone()
    assert tables is not None
    assert tables[0] > 0


def test_two_tests_get_two_databases(postgres_dsn: str, servers: object) -> None:
    assert postgres_dsn.rpartition("/")[2].startswith("test_")


def test_a_killed_postgres_comes_back_with_its_data(private_postgres: PostgresServer) -> None:
    with psycopg.connect(private_postgres.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 17 AS n")
    private_postgres.kill()
    private_postgres.start()
    with psycopg.connect(private_postgres.dsn) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (17,)


def test_a_private_redis_forgets_when_it_is_killed(private_redis: RedisServer) -> None:
    with private_redis.connect() as client:
        client.set("a", "1")
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    private_redis.kill()
    assert private_redis.probe() is not None
    private_redis.start()
    with private_redis.connect() as client:
        assert client.get("a") is None


def test_a_durable_redis_remembers(server_binaries: Binaries, private_folder: Path) -> None:
    server = RedisServer(server_binaries.redis, private_folder / "redis", log=private_folder / "redis.log")
    try:
        server.start()
        with server.connect() as client:
            client.set("a", "1")
        server.stop()
        server.start()
        with server.connect() as client:
            assert client.get("a") == b"1"
    finally:
        server.kill()


def test_a_suspended_etcd_answers_again_when_resumed(private_etcd: EtcdServer) -> None:
    private_etcd.suspend()
    assert private_etcd.probe() is not None
    private_etcd.resume()
    wait_until(lambda: private_etcd.probe() is None)


def test_etcd_is_configured_to_forget_what_its_keys_once_were(private_etcd: EtcdServer) -> None:
    # Otherwise the members' refreshes fill it within weeks, and it refuses all writes.
    assert "--auto-compaction-retention=5m" in private_etcd.program().argv
    assert private_etcd.probe() is None


def test_a_wiped_etcd_starts_empty(private_etcd: EtcdServer) -> None:
    private_etcd.wipe()
    assert not private_etcd.folder.exists()
    private_etcd.start()


def test_a_given_port_that_is_taken_is_said_in_one_line(
    servers: Servers, server_binaries: Binaries, private_folder: Path
) -> None:
    server = RedisServer(
        server_binaries.redis, private_folder / "redis", log=private_folder / "redis.log", port=servers.redis.port
    )
    # The probe would reach the other server at the port, so only the end of the child shows the failure.
    server.launch()
    wait_until(lambda: server.child.exit_status is not None)
    with pytest.raises(ServerFailed, match="ddress already in use"):
        server.await_ready()


def test_a_server_that_cannot_start_quotes_its_log(server_binaries: Binaries, private_folder: Path) -> None:
    server = PostgresServer(server_binaries.postgres, private_folder / "postgres", log=private_folder / "postgres.log")
    server.prepare()
    (server.folder / "postgresql.conf").write_text("shared_buffers = nonsense\n", "ascii")
    with pytest.raises(ServerFailed, match=r"PostgreSQL did not start .*nonsense"):
        server.start()


SUPERVISOR = """
import sys, time
from pathlib import Path
from taskd.dev.servers import binaries
from taskd.dev.servers.servers import Servers
servers = Servers(binaries.find(binaries.Search(source="embedded")), Path(sys.argv[1]))
servers.start()
if sys.argv[2] == "suspended":
    for server in servers.all:
        server.suspend()
print(*(server.child.pid for server in servers.all), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("state", ["running", "suspended"])
def test_no_server_outlives_a_killed_supervisor_and_the_data_survives(private_folder: Path, state: str) -> None:
    pids = []
    for _ in range(2):  # the second start finds the files of the first
        with subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(private_folder), state], stdout=subprocess.PIPE, text=True
        ) as supervisor:
            assert supervisor.stdout is not None
            pids = [int(pid) for pid in supervisor.stdout.readline().split()]
            assert len(pids) == 3
            alive = {pid: identity(pid) for pid in pids}
            assert None not in alive.values()
            supervisor.kill()
        wait_until(partial(_all_gone, alive))


def _all_gone(alive: dict[int, str | None]) -> bool:
    return all(identity(pid) != was for pid, was in alive.items())


def test_an_unprivileged_owner_is_used_only_by_root(private_postgres: PostgresServer) -> None:
    owner = private_postgres.folder.stat().st_uid
    assert (owner != 0) if os.geteuid() == 0 else (owner == os.geteuid())


def test_what_a_killed_child_left_in_its_group_dies_with_it(private_postgres: PostgresServer) -> None:
    postmaster = private_postgres.child.pid
    assert postmaster is not None
    os.kill(postmaster, signal.SIGKILL)
    wait_until(lambda: private_postgres.child.exit_status == -signal.SIGKILL)
    wait_until(lambda: not _group(postmaster))


def _group(leader: int) -> list[str]:
    """Return the states of a group's processes, without zombies."""
    listed = subprocess.run(["ps", "-e", "-o", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    processes = [line.split() for line in listed.splitlines()]
    return [state for group, state in processes if int(group) == leader and not state.startswith("Z")]


def test_settings_of_the_caller_come_before_ours(server_binaries: Binaries, private_folder: Path) -> None:
    wanted = {"track_commit_timestamp": "on", "max_connections": "40"}
    postgres = PostgresServer(
        server_binaries.postgres, private_folder / "postgres", log=private_folder / "postgres.log", settings=wanted
    )
    valkey = RedisServer(
        server_binaries.redis,
        private_folder / "redis",
        log=private_folder / "redis.log",
        settings={"maxmemory": "3000000"},
    )
    try:
        postgres.start()
        valkey.start()
        with psycopg.connect(postgres.dsn) as connection:
            for name, value in wanted.items():
                assert connection.execute("SELECT current_setting(%s)", [name]).fetchone() == (value,)
        with valkey.connect() as client:
            found = client.config_get("maxmemory*")
        assert (found["maxmemory"], found["maxmemory-policy"]) == ("3000000", "noeviction")
    finally:
        postgres.stop()  # after a kill, its processes would still write while the folder is removed
        valkey.kill()
