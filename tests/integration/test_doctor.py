"""Test taskd doctor on healthy servers, missing ones, and ones whose settings endanger jobs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from taskd.cli.main import run
from taskd.coordination import doctor as etcd
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.ports import free_port
from taskd.dev.servers.postgres import PostgresServer
from taskd.dev.servers.valkey import RedisServer
from taskd.domain.diagnosis import Diagnosis, unreached
from taskd.domain.fencing import Dispatch
from taskd.seams import Member
from taskd.settings import EtcdSettings, RedisSettings
from taskd.store import doctor as postgres
from taskd.transport import doctor as redis
from taskd.transport.stream import RedisTransport
from tests import web
from tests.integration.etcd_world import coordinator
from tests.integration.storage import Storage
from tests.servers import SharedServers, wait_until


def levels(diagnoses: list[Diagnosis]) -> dict[str, str]:
    return {one.subject: one.level for one in diagnoses}


@pytest.fixture
def surroundings(
    servers: SharedServers, postgres_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTGRES_DSN", postgres_dsn)
    monkeypatch.setenv("REDIS_URL", servers.redis.url)
    monkeypatch.setenv("ETCD_ENDPOINTS", servers.etcd.endpoint)
    return monkeypatch


def test_a_sound_set_up_has_nothing_wrong(surroundings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is True
    by_subject = {one["subject"]: one for one in told["findings"]}
    assert {"configuration", "PostgreSQL", "schema", "durability", "Redis", "Redis policy", "etcd"} <= by_subject.keys()
    # This cluster has no process of taskd.
    assert (by_subject["leader"]["level"], by_subject["workers"]["level"]) == ("note", "note")


def test_times_that_do_not_fit_together_are_findings_and_the_rest_is_looked_at(
    surroundings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    surroundings.setenv("TASKD_WORKER__HEARTBEAT", "60")
    surroundings.setenv("TASKD_SCHEDULER__LEADER_RENEW", "9")
    assert run(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    texts = [one["text"] for one in findings if (one["subject"], one["level"]) == ("timings", "wrong")]
    assert [text.partition(":")[0] for text in texts] == [
        "twice worker.heartbeat (60 s) must be less than worker.session_ttl (15 s)",
        "twice scheduler.leader_renew (9 s) must be less than scheduler.leader_stale (10 s)",
    ]
    assert {one["subject"] for one in findings if one["level"] == "ok"} > {"PostgreSQL", "Redis", "etcd"}


async def test_workers_with_sessions_of_another_length_are_worth_a_note(etcd_endpoint: str, etcd_prefix: str) -> None:
    def member(name: str, lease: float) -> Callable[[], Member]:
        shown = Member(
            kind="worker", id=name, incarnation=uuid4(), address="", host="h", pid=1, started_at=0.0, lease=lease
        )
        return lambda: shown

    settings = EtcdSettings(endpoints=etcd_endpoint, prefix=etcd_prefix)
    async with coordinator(etcd_endpoint, etcd_prefix) as mine, AsyncExitStack() as stack:
        for shown in (member("w1", 15.0), member("silent", 0.0), member("w2", 60.0), member("w3", 30.0)):
            await stack.enter_async_context(mine.register(shown, 3.0))
        (found,) = [one for one in await etcd.examine(settings, 15.0) if one.subject == "sessions"]
        assert (found.level, found.text) == (
            "note",
            "worker w2 runs with worker.session_ttl 60, these settings have 15, and 1 more differ",
        )
    async with coordinator(etcd_endpoint, etcd_prefix) as mine, mine.register(member("w1", 15.0), 3.0):
        assert "sessions" not in levels(await etcd.examine(settings, 15.0))


async def test_shards_without_a_leader_are_named(
    surroundings: pytest.MonkeyPatch, postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Test that the leader of shard 0 gives the number of shards."""
    store = Storage(postgres_dsn)

    async def leader() -> dict[str, str]:
        assert await asyncio.to_thread(run, ["doctor", "--json"]) == 0
        findings = json.loads(capsys.readouterr().out)["findings"]
        return next(one for one in findings if one["subject"] == "leader")

    expected = {
        0: ("note", "none of shards 1, 2: their queues wait"),
        2: ("note", "none of shards 1: their queues wait"),
        1: ("ok", "test"),
    }
    for shard, words in expected.items():
        await store.lead(shard, 3)
        told = await leader()
        assert (told["level"], told["text"]) == words
    await store.close()


def test_each_server_that_is_away_is_wrong_and_says_what_to_do(
    surroundings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    surroundings.setenv("POSTGRES_DSN", f"postgresql://127.0.0.1:{free_port()}/x")
    surroundings.setenv("REDIS_URL", f"127.0.0.1:{free_port()}")
    surroundings.setenv("ETCD_ENDPOINTS", f"127.0.0.1:{free_port()}")
    assert run(["doctor"]) == 1
    out, err = capsys.readouterr()
    wrong = [line for line in out.splitlines() if line.startswith("wrong")]
    assert [line.split()[1] for line in wrong] == ["PostgreSQL", "Redis", "etcd"]
    assert all("start it, or check" in line for line in wrong)
    assert err == ""


DENIED = "user name or the password"
#: A value of REDIS_URL, and parts of the diagnosis and of its advice.
REDIS_DENIALS = {
    "": ("asks for a password", "put it into REDIS_URL, as in redis://:PASSWORD@HOST:PORT"),
    "taskd:wr0ng@": (DENIED, "correct the user name and the password in REDIS_URL"),
    "nobody:s3cret@": (DENIED, "correct the user name and the password in REDIS_URL"),
    ":wr0ng@": (DENIED, "correct the user name and the password in REDIS_URL"),
    "little:s3cret@": ("does not allow its user a command", "give it the rights that taskd needs"),
}


def documented_acl(prefix: str) -> list[str]:
    """Return the words of the page's ACL SETUSER."""
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith("ACL SETUSER"))
    return line.replace("PASSWORD", "s3cret").replace("jobs:*", f"{prefix}:*").split()


async def test_a_redis_that_denies_access_says_what_to_correct(private_redis: RedisServer) -> None:
    with private_redis.connect() as client:
        client.execute_command(*documented_acl("jobs"))
        client.execute_command("ACL", "SETUSER", "little", "on", ">s3cret", "~jobs:*", "-@all", "+@connection")
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">s3cret")
    for who, (text, advice) in REDIS_DENIALS.items():
        url = private_redis.url.replace("redis://", f"redis://{who}")
        (found,) = await redis.examine(RedisSettings(url=url))
        assert (found.level, text in found.text, found.advice.startswith(advice)) == ("wrong", True, True), (who, found)
        assert "HELLO" not in found.text
        assert "start it" not in found.advice


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ("-@scripting", "eval"),
        ("-@stream", "xlen"),
        ("-@pubsub", "publish"),
        ("resetchannels", "channel"),
        ("-pttl", "pttl"),
    ],
)
async def test_a_right_that_taskd_needs_in_redis_and_lacks_is_named(
    private_redis: RedisServer, lacking: str, words: str
) -> None:
    with private_redis.connect() as client:
        client.execute_command(*documented_acl("jobs"))
        client.execute_command("ACL", "SETUSER", "taskd", lacking)
    (found,) = await redis.examine(RedisSettings(url=private_redis.url.replace("redis://", "redis://taskd:s3cret@")))
    assert (found.level, words in found.text.lower()) == ("wrong", True), found
    assert found.advice.startswith("give it the rights that taskd needs")


async def test_a_database_that_redis_does_not_have_is_named_by_its_number(private_redis: RedisServer) -> None:
    (found,) = await redis.examine(RedisSettings(url=f"{private_redis.url.rstrip('/')}/9999"))
    assert found.advice == "correct the number of the database at the end of REDIS_URL"


async def test_a_redis_without_tls_that_is_asked_by_tls_is_looked_at_for_that(private_redis: RedisServer) -> None:
    (found,) = await redis.examine(RedisSettings(url=private_redis.url.replace("redis://", "rediss://")))
    assert found.level == "wrong"
    assert "TLS" in found.advice


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("errors resolving etcd.invalid:2379: Domain name not found", "check the host name in X"),
        ('connection is bad: invalid port number: "99999"', "correct the port in X"),
        ("Failed parsing HTTP/2 (Expected SETTINGS frame)", "what listens there is another program"),
        ("Connection refused", "start it, or check X"),
    ],
)
def test_the_advice_fits_what_the_connection_said(said: str, advice: str) -> None:
    assert unreached("it", OSError(said), "X").advice.startswith(advice)


async def test_the_documented_rights_in_redis_are_enough_and_no_key_is_outside(private_redis: RedisServer) -> None:
    with private_redis.connect() as client:
        client.execute_command(*documented_acl("own"))
    settings = RedisSettings(url=private_redis.url.replace("redis://", "redis://taskd:s3cret@"), stream="own")
    assert {one.level for one in await redis.examine(settings)} == {"ok"}
    leader, worker = RedisTransport(settings), RedisTransport(settings, consumer="w1")
    try:
        assert await leader.policy() == "noeviction"
        await leader.ping()
        await leader.ring([Dispatch(1, 1, "default", 0)])
        (delivery,) = await worker.fetch(("default",), 1, 0)
        await worker.decided([delivery])
        assert sum((await leader.depths(("default",))).values()) == 0
    finally:
        await leader.close()
        await worker.close()
    # A user that may only write the probe is judged by that.
    with private_redis.connect() as client:
        assert [key for key in client.keys("*") if not key.startswith(b"own:")] == []
        client.execute_command("ACL", "SETUSER", "taskd", "-info")
    (diagnosis,) = await redis.examine(settings)
    assert (diagnosis.level, "INFO" in diagnosis.text) == ("ok", True)


def test_a_postgresql_that_denies_access_says_what_to_correct(private_postgres: PostgresServer) -> None:
    with psycopg.connect(private_postgres.dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE barred NOLOGIN")
        connection.execute("CREATE ROLE known LOGIN PASSWORD 's3cret'")
        (hba,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        rules = (("all", "taskd", "trust"), ("all", "barred", "trust"), ("taskd", "known", "scram-sha-256"))
        Path(hba).write_text("".join(f"host {where} {who} 127.0.0.1/32 {how}\n" for where, who, how in rules))
        connection.execute("SELECT pg_reload_conf()")
        address, know = private_postgres.address, "SELECT count(*) FROM pg_hba_file_rules"
        wait_until(lambda: connection.execute(know).fetchone() == (3,))
    expected = {
        f"postgresql://known@{address}/taskd": "put the password into POSTGRES_DSN",
        f"postgresql://known:wr0ng@{address}/taskd": "correct the user name and the password in POSTGRES_DSN",
        f"postgresql://known:s3cret@{address}/postgres": "allow this host, user and database in the server's pg_hba.conf",
        f"postgresql://barred@{address}/taskd": "use a role with LOGIN in POSTGRES_DSN",
        f"postgresql://taskd@{address}/nowhere": "make it (createdb), or correct its name in POSTGRES_DSN",
        f"postgresql://taskd@{address}/taskd?sslmode=require": "check the certificates and the TLS settings of POSTGRES_DSN",
        "postgresql://host.invalid/taskd": "check the host name in POSTGRES_DSN",
    }
    for dsn, advice in expected.items():
        (diagnosis,) = postgres.examine(dsn, 10.0)
        assert (diagnosis.level, diagnosis.advice[: len(advice)]) == ("wrong", advice), (dsn, diagnosis)


async def test_an_etcd_that_asks_for_a_user_says_so(private_etcd: EtcdServer) -> None:
    assert "etcd rights" not in levels(await etcd.examine(EtcdSettings(endpoints=private_etcd.endpoint)))
    for path, body in (
        ("user/add", {"name": "root", "password": "s3cret"}),
        ("user/grant", {"user": "root", "role": "root"}),
        ("enable", {}),
    ):
        web.post(f"http://{private_etcd.endpoint}/v3/auth/{path}", json=body).raise_for_status()
    (diagnosis,) = [
        candidate
        for candidate in await etcd.examine(EtcdSettings(endpoints=private_etcd.endpoint))
        if candidate.subject == "etcd rights"
    ]
    assert (diagnosis.level, "asks for a user with rights" in diagnosis.text) == ("wrong", True)
    assert diagnosis.advice.startswith("give a client certificate")


def test_a_missing_schema_is_wrong(servers: SharedServers, surroundings: pytest.MonkeyPatch, postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA taskd CASCADE")
    (schema,) = [diagnosis for diagnosis in postgres.examine(postgres_dsn, 10.0) if diagnosis.subject == "schema"]
    assert (schema.level, schema.advice) == ("wrong", "run `taskd migrate`")


def test_a_postgresql_that_may_lose_jobs_is_wrong(private_postgres: PostgresServer) -> None:
    with psycopg.connect(private_postgres.dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
        while connection.execute("SHOW fsync").fetchone() != ("off",):
            connection.execute("SELECT 1")
    levels_found = levels(postgres.examine(private_postgres.dsn, 10.0))
    assert (levels_found["durability"], levels_found["autovacuum"]) == ("wrong", "wrong")


def test_an_old_transaction_is_worth_a_note(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "transactions" not in levels(postgres.examine(postgres_dsn, 10.0))
    assert [diagnosis.level for diagnosis in postgres._transactions(61.0)] == ["note"]
    assert [*postgres._transactions(59.0), *postgres._transactions(None)] == []


def test_clocks_that_differ_are_worth_a_note() -> None:
    now = time.time()
    assert [diagnosis.level for diagnosis in postgres._clock(now, now - 0.1, now + 0.1)] == ["ok"]
    assert [diagnosis.level for diagnosis in postgres._clock(now + 5, now, now)] == ["note"]
    assert [diagnosis.level for diagnosis in postgres._clock(now - 5, now, now)] == ["note"]


async def test_a_redis_that_throws_entries_away_is_wrong(private_redis: RedisServer) -> None:
    with private_redis.connect() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "100mb")
    levels_found = levels(await redis.examine(RedisSettings(url=private_redis.url)))
    assert (levels_found["Redis"], levels_found["Redis policy"]) == ("ok", "wrong")


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        ({"redis_version": "6.0.16", "role": "master"}, "wrong"),
        ({"redis_version": "7.2.0", "role": "slave"}, "wrong"),
        ({"redis_version": "7.2.0", "valkey_version": "8.0.1", "role": "master"}, "ok"),
    ],
)
def test_a_redis_that_cannot_be_used_is_wrong(facts: dict[str, object], level: str) -> None:
    assert [diagnosis.level for diagnosis in redis._server(facts, 0.0)] == [level]


def test_access_and_listening_are_reported() -> None:
    assert [diagnosis.level for diagnosis in postgres._tokens(1, 2)] == ["ok"]
    assert [diagnosis.level for diagnosis in postgres._tokens(0, 2)] == ["note"]
    assert "may do everything" in postgres._tokens(0, 0)[0].text
    assert [diagnosis.level for diagnosis in postgres._link("10.0.0.1", encrypted=False)] == ["note"]
    assert [diagnosis.level for diagnosis in postgres._link("10.0.0.1", encrypted=True)] == ["ok"]
    assert [*postgres._link("127.0.0.1", encrypted=False), *postgres._link("", encrypted=False)] == []


async def test_a_key_that_is_no_stream_is_wrong_and_named(
    redis_url: str, stream_name: str, servers: SharedServers
) -> None:
    settings = RedisSettings(url=redis_url, stream=f"{stream_name}[*]")
    with servers.redis.connect() as client:
        client.xadd(f"{settings.stream}:{{good}}:0", {"d": "1:1:1"})
        assert "Redis keys" not in levels(await redis.examine(settings))
        client.set(f"{settings.stream}:{{q1}}:50", "x")
        client.set(f"{settings.stream}:{{\x1b}}:0", b"\xff")
    (finding,) = [diagnosis for diagnosis in await redis.examine(settings) if diagnosis.subject == "Redis keys"]
    assert finding.level == "wrong"
    assert f"{stream_name}[*]:{{q1}}:50" in finding.text
    assert finding.text.isprintable()
    assert "DEL" in finding.advice
