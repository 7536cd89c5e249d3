"""The checks of `taskd doctor` on PostgreSQL."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from typing import Any

import psycopg

from taskd.domain.diagnosis import Diagnosis, note, ok, unreached, wrong
from taskd.domain.errors import AccessDenied, ConfigurationError, SchemaMismatch, StoreUnavailable
from taskd.store import migrations
from taskd.store.pinned import ENCODING, PINNED, startup

NAME = "PostgreSQL"
OLDEST = 14
#: Seconds by which two clocks may differ. With more, times in logs and times in jobs do not fit together.
SKEW = 1.0
#: Connections that a scheduler and a worker need, and some spare ones.
ROOM = 20

FACTS = """
    SELECT current_setting('server_version_num')::int / 10000, current_setting('server_version'), pg_is_in_recovery(),
           current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'),
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
           extract(epoch FROM clock_timestamp())::float8, current_setting('autovacuum')
"""
#: The oldest transaction of another program: it keeps every dead row of the hot table from being removed.
OLDEST_TRANSACTION = """
    SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8 FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""

#: The leader of each shard, of as many as the leader of shard 0 counts, and the number of workers. It needs the schema.
CLUSTER = """
    SELECT n, l.instance_id, l.holder IS NOT NULL,
           (extract(epoch FROM clock_timestamp()) - extract(epoch FROM l.renewed_at))::float8,
           (SELECT count(*) FROM taskd.sessions WHERE ended_at IS NULL AND expires_at > clock_timestamp())
    FROM taskd.leader first CROSS JOIN generate_series(0, first.shards - 1) n LEFT JOIN taskd.leader l ON l.shard = n
    WHERE first.shard = 0 ORDER BY n
"""

#: The number of tokens that are valid, and of all.
TOKENS = """
    SELECT count(*) FILTER (WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())), count(*)
    FROM taskd.tokens
"""


def examine(dsn: str, leader_stale: float, *, pooled: bool = False) -> list[Diagnosis]:
    """Connect and report. `leader_stale` and `pooled` are those of the settings."""
    try:
        missing = migrations.pending(dsn, pooled=pooled)
    except AccessDenied as error:
        return [wrong(NAME, error.what, error.advice)]
    except ConfigurationError as error:
        return [wrong(NAME, str(error), "correct POSTGRES_DSN")]
    except StoreUnavailable as error:
        return [unreached(NAME, error, "POSTGRES_DSN")]
    except SchemaMismatch as error:
        fits = False
        schema = wrong("schema", str(error), "upgrade taskd, or point POSTGRES_DSN at its own database")
    else:
        names = ", ".join(missing)
        fits = not missing
        schema = wrong("schema", f"lacks {names}", "run `taskd migrate`") if missing else ok("schema", "up to date")
    try:
        with psycopg.connect(
            dsn,
            autocommit=True,
            connect_timeout=5,
            application_name="taskd:doctor",
            **(ENCODING if pooled else startup({**PINNED, "statement_timeout": "5000"})),
        ) as connection:
            before = time.time()
            facts = connection.execute(FACTS).fetchone()
            after = time.time()
            (age,) = connection.execute(OLDEST_TRANSACTION).fetchone() or (None,)
            cluster = connection.execute(CLUSTER).fetchall() if fits else []
            tokens = connection.execute(TOKENS).fetchone() if fits else None
            link = _link(connection.info.hostaddr, encrypted=connection.pgconn.ssl_in_use)
    except psycopg.Error as error:
        return [wrong(NAME, str(error).strip().splitlines()[0], "check its log"), schema]
    assert facts is not None
    access = [*link, *(_tokens(*tokens) if tokens else ())]
    members = _cluster(cluster, leader_stale) if fits else ()
    return [*_server(facts), schema, *_clock(facts[8], before, after), *_transactions(age), *access, *members]


def _server(facts: tuple[Any, ...]) -> Iterator[Diagnosis]:
    major, version, standby, fsync, commit, pages, most, used, _, autovacuum = facts
    if major < OLDEST:
        yield wrong(NAME, f"version {version}", f"taskd needs {OLDEST} or later")
    elif standby:
        yield wrong(NAME, f"version {version}, a standby that takes no writes", "point POSTGRES_DSN at the primary")
    else:
        yield ok(NAME, f"version {version}")
    if "off" in (fsync, pages):
        yield wrong("durability", f"fsync {fsync}, full_page_writes {pages}: a crash may lose jobs", "switch both on")
    elif commit == "off":
        yield wrong("durability", "synchronous_commit is off: a crash loses the last jobs", "set it to on or more")
    else:
        yield ok("durability", f"fsync on, synchronous_commit {commit}")
    if autovacuum == "off":
        yield wrong("autovacuum", "off: dispatching gets slower with every job", "switch it on")
    if most - used < ROOM:
        yield note("connections", f"{used} of {most} in use", "raise max_connections: each process needs 4 to 18")
    else:
        yield ok("connections", f"{used} of {most} in use")


def _clock(theirs: float, before: float, after: float) -> Iterator[Diagnosis]:
    """If the clocks agree, PostgreSQL's time lies between ours before and after the question."""
    skew = max(before - theirs, theirs - after, 0.0)
    if skew > SKEW:
        yield note("clocks", f"PostgreSQL's differs from ours by {skew:.1f} s", "run NTP on both machines")
    else:
        yield ok("clocks", "PostgreSQL's and ours agree")


def _transactions(age: float | None) -> Iterator[Diagnosis]:
    if age is not None and age > 60:
        yield note(
            "transactions",
            f"one has been open for {age:.0f} s, and no dead row can be removed meanwhile",
            "find it in pg_stat_activity, and set idle_in_transaction_session_timeout",
        )


def _link(address: str, *, encrypted: bool) -> list[Diagnosis]:
    """`address` is empty for a Unix socket."""
    if encrypted:
        return [ok("encryption", "PostgreSQL by TLS")]
    if not address or ipaddress.ip_address(address).is_loopback:
        return []
    return [note("encryption", "none on the way to PostgreSQL", "add sslmode=verify-full to POSTGRES_DSN")]


def _tokens(valid: int, all_tokens: int) -> list[Diagnosis]:
    if valid:
        return [ok("API tokens", f"{valid} valid")]
    if all_tokens:
        return [note("API tokens", "none is valid: the API refuses every request", "make one: `taskd token create`")]
    return [ok("API tokens", "none: every client that reaches a scheduler may do everything")]


def _cluster(rows: list[tuple[Any, ...]], leader_stale: float) -> Iterator[Diagnosis]:
    led = {shard: name for shard, name, held, age, _ in rows if held and age < leader_stale}
    idle = ", ".join(str(row[0]) for row in rows if row[0] not in led)
    workers = rows[0][-1]
    if not led:
        yield note("leader", "none: nothing is dispatched", "start a scheduler: `taskd scheduler`")
    elif idle:
        yield note(
            "leader",
            f"none of shards {idle}: their queues wait",
            "start a scheduler, or give all of them the same scheduler.shards",
        )
    else:
        yield ok("leader", ", ".join(dict.fromkeys(led.values())))
    if workers:
        yield ok("workers", f"{workers} alive")
    else:
        yield note("workers", "none is alive: nothing is run", "start one: `taskd worker`")
