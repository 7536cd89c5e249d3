"""Test PostgreSQL behind PgBouncer, which pools transactions: no session state lasts from statement to statement."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import psycopg
import pytest

from taskd.dev.child_process import Program
from taskd.dev.servers.owner import unprivileged
from taskd.dev.servers.ports import LOOPBACK
from taskd.dev.servers.server import Server, environment
from taskd.domain.errors import ClaimLost
from taskd.domain.fencing import Claim
from taskd.store.doctor import examine
from taskd.store.lane import Lane
from taskd.store.task_connections import TaskConnectionPool
from tests.e2e.fleet import Fleet, batch
from tests.integration.storage import FixedCompletion, Storage, spec
from tests.servers import wait_until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
#: Fewer connections than a scheduler and a worker have lanes.
POOL = 4

needs_pgbouncer = pytest.mark.skipif(
    PROGRAM is None, reason="left out: pgbouncer is not installed (apt install pgbouncer)"
)


class PgBouncer(Server):
    """Pooler before the server at `dsn`."""

    title: ClassVar[str] = "PgBouncer"
    stop_signal: ClassVar[int] = signal.SIGINT

    def __init__(self, binary: Path, folder: Path, *, log: Path, dsn: str) -> None:
        super().__init__(binary, folder, log=log)
        self._target = urlsplit(dsn)
        self._owner = unprivileged()

    @property
    def dsn(self) -> str:
        """DSN of the same database through the pooler."""
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

    with psycopg.connect(pooler.dsn, prepare_threshold=None) as connection:  # the leader's poll finds these jobs
        submitted = [
            row[0]
            for n in range(20)
            for row in connection.execute("SELECT id FROM taskd.submit('nap', '{\"seconds\": 0}', priority => %s)", [n])
        ]
    fleet.wait_completed(submitted)

    leader = fleet.leader(schedulers)
    leader.kill()
    (other,) = [scheduler for scheduler in schedulers if scheduler is not leader]
    after = batch(fleet.client(other), "nap", [{"seconds": 0.01}] * 50)
    fleet.wait_completed(after)
    assert fleet.leader([other]) is other


@needs_pgbouncer
async def test_a_tasks_transaction_goes_through_a_pooler(postgres_dsn: str, pooler: PgBouncer) -> None:
    store = Storage(postgres_dsn)
    term, session = await store.lead(), await store.work()
    await store.submit(*[spec() for _ in range(12)])
    claims = await store.claim(session, await store.dispatch(term))
    pool = TaskConnectionPool(pooler.dsn, size=3, name="taskd:task:w", pooled=True)

    async def work(claim: Claim) -> None:
        async with pool.transaction(claim.job_id, claim.attempt, FixedCompletion()) as connection:
            for _ in range(10):  # often enough to be prepared, if that were allowed
                await connection.execute("SELECT %s", [claim.job_id])

    await asyncio.gather(*map(work, claims))
    assert {(await store.job(claim.job_id)).status for claim in claims} == {"completed"}
    with pytest.raises(ClaimLost):
        await work(claims[0])
    await pool.close()
    await store.close()


@needs_pgbouncer
def test_migrations_ask_for_postgresql_itself(make_fleet: Callable[..., Fleet], pooler: PgBouncer) -> None:
    fleet = make_fleet()
    pooled = {"POSTGRES_DSN": pooler.dsn, "TASKD_POSTGRES__POOLED": "true"}
    for arguments in (["migrate"], ["scheduler", "--migrate", "--http-addr", "127.0.0.1:0"]):
        process = fleet.spawn(*arguments, **pooled)
        wait_until(lambda started=process: started.popen.poll() == 1)  # type: ignore[misc]
        assert "error: migrations need PostgreSQL itself" in process.output


@needs_pgbouncer
async def test_what_a_role_has_set_changes_nothing_behind_a_pooler(postgres_dsn: str, pooler: PgBouncer) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        database = admin.info.dbname
        for name, value in (
            ("client_encoding", "LATIN1"),
            ("timezone", "Pacific/Chatham"),
            ("statement_timeout", "500"),
        ):
            admin.execute(f"ALTER DATABASE \"{database}\" SET {name} = '{value}'".encode())
    lane = Lane(pooler.dsn, name="test", deadline=5.0, pooled=True)
    for _ in range(2 * POOL):
        ((horse, zone, timeout),) = await lane.fetch(
            "SELECT %(horse)s::text, current_setting('timezone'), current_setting('statement_timeout')", {"horse": "🐎"}
        )
        assert (horse, zone, timeout) == ("🐎", "UTC", "0")
    await lane.close()


@needs_pgbouncer
def test_doctor_looks_through_a_pooler(pooler: PgBouncer) -> None:
    findings = examine(pooler.dsn, 10.0, pooled=True)
    assert {finding.subject: finding.level for finding in findings}["schema"] == "ok"
