"""PostgreSQL behind PgBouncer, which pools transactions: nothing of a session lasts from one statement to the next."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import psycopg
import pytest

from taskd.dev.child import Program
from taskd.dev.owner import unprivileged
from taskd.dev.ports import LOOPBACK
from taskd.dev.server import Server, environment
from tests.e2e.fleet import Fleet, batch
from tests.servers import wait_until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
#: Fewer connections than a scheduler and a worker have lanes.
POOL = 4

needs_pgbouncer = pytest.mark.skipif(
    PROGRAM is None, reason="left out: pgbouncer is not installed (apt install pgbouncer)"
)


class PgBouncer(Server):
    """A pooler before the server at `dsn`."""

    title: ClassVar[str] = "PgBouncer"
    stop_signal: ClassVar[int] = signal.SIGINT

    def __init__(self, binary: Path, folder: Path, *, log: Path, dsn: str) -> None:
        super().__init__(binary, folder, log=log)
        self._target = urlsplit(dsn)
        self._owner = unprivileged()

    @property
    def dsn(self) -> str:
        """The same database, through the pooler."""
        return f"postgresql://{self._target.username}@{self.address}{self._target.path}"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._owner is not None:
            os.chown(self.folder, self._owner.uid, self._owner.gid)
        (self.folder / "users").write_text(f'"{self._target.username}" ""\n')
        (self.folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={LOOPBACK} port={self._target.port}\n[pgbouncer]\n"
            f"listen_addr={LOOPBACK}\nlisten_port={self.port}\nunix_socket_dir=\nauth_type=trust\n"
            f"auth_file={self.folder}/users\npool_mode=transaction\ndefault_pool_size={POOL}\nmax_client_conn=200\n"
        )

    def program(self) -> Program:
        return Program(
            argv=[self.binary, str(self.folder / "pgbouncer.ini")], environment=environment(("PG",)), owner=self._owner
        )

    def probe(self) -> str | None:
        try:
            with psycopg.connect(self.dsn, connect_timeout=2, sslmode="disable", prepare_threshold=None) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error as error:
            return str(error)
        return None


@pytest.fixture
def pooler(postgres_dsn: str, private_folder: Path) -> Iterator[PgBouncer]:
    assert PROGRAM is not None
    server = PgBouncer(Path(PROGRAM), private_folder / "pooler", log=private_folder / "pooler.log", dsn=postgres_dsn)
    server.start()
    yield server
    server.kill()


@needs_pgbouncer
def test_a_cluster_works_behind_a_pooler_of_transactions(make_fleet: Callable[..., Fleet], pooler: PgBouncer) -> None:
    fleet = make_fleet()
    fleet.more |= {"POSTGRES_DSN": pooler.dsn, "TASKD_POSTGRES__POOLED": "true"}
    schedulers = [fleet.start_scheduler("one"), fleet.start_scheduler("two")]
    fleet.start_worker("w")
    client = fleet.client(*schedulers)
    ids = batch(client, "nap", [{"seconds": 0.01}] * 300)
    ids += batch(client, "flaky", [{"failures": 1}] * 5, retry_backoff={"initial": 0})
    fleet.wait_completed(ids)
    assert client.submit({"task": "nap", "payload": {}, "dedupe_key": "k"})["status"] == "pending"
    assert client.submit({"task": "nap", "payload": {}, "dedupe_key": "k"})["duplicate"] is True

    leader = fleet.leader(schedulers)
    leader.kill()
    (other,) = [one for one in schedulers if one is not leader]
    after = batch(fleet.client(other), "nap", [{"seconds": 0.01}] * 50)
    fleet.wait_completed(after)
    assert fleet.leader([other]) is other


@needs_pgbouncer
def test_migrations_ask_for_postgresql_itself(make_fleet: Callable[..., Fleet], pooler: PgBouncer) -> None:
    fleet = make_fleet()
    pooled = {"POSTGRES_DSN": pooler.dsn, "TASKD_POSTGRES__POOLED": "true"}
    for arguments in (["migrate"], ["scheduler", "--migrate", "--http-addr", "127.0.0.1:0"]):
        process = fleet.spawn(*arguments, **pooled)
        wait_until(lambda one=process: one.popen.poll() == 1)  # type: ignore[misc]
        assert "error: migrations need PostgreSQL itself" in process.output
