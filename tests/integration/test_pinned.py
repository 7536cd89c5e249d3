"""Test that settings of a role, a database or the environment change nothing that taskd reads, writes or waits for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from taskd.store.doctor import examine
from taskd.store.lane import Lane
from taskd.store.listener import CHANNEL, PostgresListener
from taskd.store.migrations import migrate
from taskd.store.pinned import PINNED, startup
from taskd.store.task_connections import TaskConnectionPool
from tests.integration.storage import DONE, FixedCompletion, Storage, spec
from tests.servers import SharedServers

#: Settings that a role or a database may have.
HOSTILE = {
    "client_encoding": "LATIN1",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Pacific/Chatham",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
    "standard_conforming_strings": "off",
    "search_path": "evil",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "row_security": "off",
    "statement_timeout": "30",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
    "idle_session_timeout": "50",
}
#: Variables that a process's environment may have.
ENVIRONMENT = {
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Pacific/Chatham",
    "PGDATESTYLE": "SQL, DMY",
    "PGOPTIONS": "-c statement_timeout=1 -c default_transaction_read_only=on -c search_path=evil",
}
TEXT = '{"name": "žluťoučký 🐎"}'


@pytest.fixture
def hostile_dsn(servers: SharedServers, postgres_dsn: str) -> Iterator[str]:
    """Yield a DSN of the same database, for a separate role with every setting of HOSTILE."""
    role = f"hostile_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN SUPERUSER".encode())
        for name, value in HOSTILE.items():
            quoted = value if name in ("search_path", "datestyle") else f"'{value}'"
            admin.execute(f"ALTER ROLE {role} SET {name} = {quoted}".encode())
        admin.execute("CREATE SCHEMA evil")
        admin.execute("CREATE FUNCTION evil.now() RETURNS timestamptz RETURN 'epoch'::timestamptz")
    yield make_conninfo(postgres_dsn, user=role)
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}".encode())


@pytest.fixture(params=["role", "environment"])
def hostile(
    request: pytest.FixtureRequest, hostile_dsn: str, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Return a DSN whose role has hostile settings, or set them in the environment of this process."""
    if request.param == "role":
        return hostile_dsn
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return postgres_dsn


async def settings_of(lane: Lane, *names: str) -> dict[str, str]:
    rows = await lane.fetch("SELECT n, current_setting(n) FROM unnest(%(names)s::text[]) n", {"names": list(names)})
    return {name: value.replace(", ", ",") for name, value in rows}


@pytest.mark.parametrize("pooled", [False, True])
async def test_a_lane_has_its_own_settings(hostile: str, pooled: bool) -> None:
    lane = Lane(hostile, name="test", deadline=5.0, pooled=pooled)
    try:
        settings = await settings_of(lane, "client_encoding", *PINNED)
    finally:
        await lane.close()
    assert settings == {"client_encoding": "UTF8", **PINNED}


async def test_a_lanes_own_settings_come_before_the_pinned_ones(hostile: str) -> None:
    lane = Lane(hostile, name="test", deadline=5.0, options={"lock_timeout": "500ms"})
    try:
        assert await settings_of(lane, "lock_timeout") == {"lock_timeout": "500ms"}
    finally:
        await lane.close()


async def test_a_job_goes_its_whole_way(hostile: str) -> None:
    store = Storage(hostile)
    term, session = await store.lead(), await store.work()
    (submitted,) = await store.submit(spec(TEXT))
    (claim,) = await store.claim(session, await store.dispatch(term))
    assert claim.job.payload_json.decode() == TEXT
    await store.settle([claim], DONE)
    assert (await store.job(submitted.id)).status == "completed"
    await store.close()


@pytest.mark.parametrize("sync", [False, True])
async def test_a_tasks_transaction_stores_any_text(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    store = Storage(postgres_dsn)
    term, session = await store.lead(), await store.work()
    await store.submit(spec())
    (claim,) = await store.claim(session, await store.dispatch(term))
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    pool = TaskConnectionPool(postgres_dsn, size=1, name="taskd:task:w")
    if sync:

        def work() -> None:
            with pool.transaction_sync(claim.job_id, claim.attempt, FixedCompletion(TEXT.encode())) as connection:
                assert connection.execute("SELECT %s", ["🐎"]).fetchone() == ("🐎",)

        await asyncio.to_thread(work)
    else:
        async with pool.transaction(claim.job_id, claim.attempt, FixedCompletion(TEXT.encode())) as connection:
            await connection.execute("SELECT %s", ["🐎"])
    job = await store.job(claim.job_id)
    assert job.result is not None
    assert bytes(job.result).decode() == TEXT
    await pool.close()
    await store.close()


def test_migrations_and_doctor_work(hostile: str) -> None:
    with psycopg.connect(hostile, autocommit=True, **startup()) as admin:
        admin.execute("DROP SCHEMA taskd CASCADE")
    assert migrate(hostile)
    assert migrate(hostile) == []
    assert "wrong" not in {finding.level for finding in examine(hostile, 10.0)}


async def test_a_listener_hears_on(hostile: str, postgres_dsn: str) -> None:
    wakes = PostgresListener(hostile, name="test", pooled=False).wakes()
    await anext(wakes)
    with psycopg.connect(postgres_dsn, autocommit=True, options="-c statement_timeout=0") as other:
        (timeout,) = other.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND datname = current_database()"
        ).fetchone() or (0,)
        assert timeout == 1
        other.execute(f"NOTIFY {CHANNEL}".encode())
    async with asyncio.timeout(10):
        await anext(wakes)
    await wakes.aclose()  # type: ignore[attr-defined]


def test_the_command_line_works_in_a_hostile_environment(postgres_dsn: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "taskd", "migrate"],
        env={**os.environ, **ENVIRONMENT, "POSTGRES_DSN": postgres_dsn},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
