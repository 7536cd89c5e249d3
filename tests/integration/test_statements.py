"""Test the named statements: all are used and valid, and the frequent ones have only one plan."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

import taskd.store
from taskd.store.intake import SUBMIT_OPTIONS
from taskd.store.lane import ONE_PLAN, Lane
from taskd.store.pinned import flags
from taskd.store.statements import FOLDER, names, statement

MODULES = list(Path(taskd.store.__file__).parent.glob("*.py"))
HOLDER = UUID(int=1)

#: A value for every parameter that a statement has.
PARAMETERS: dict[str, Any] = {
    "jobs": "[]",
    "settlements": json.dumps([{"id": 5, "attempt": 1, "session": str(HOLDER), "status": "completed"}]),
    "notes": json.dumps([{"id": 5, "attempt": 1, "session": str(HOLDER), "progress": "{}"}]),
    "outputs": json.dumps([{"id": 5, "attempt": 1, "session": str(HOLDER), "chunks": [], "first": 0, "wanted": 0}]),
    "credit": json.dumps([{"queue": "default", "low": 0, "high": 24, "credit": 10}]),
    "ids": "{1,2,3}",
    "seqs": "{1,1,1}",
    "attempts": "{1,1,1}",
    "attempt": 1,
    "line": 1,
    "only": None,
    "shard": 0,
    "shards": 3,
    "epoch": 1,
    "holder": HOLDER,
    "source": HOLDER,
    "session": HOLDER,
    "id": 1,
    "worker_id": "w",
    "host": "{}",
    "queues": ["default"],
    "slots": 1,
    "ttl": 15.0,
    "limit": 10,
    "budget": 8_000_000,
    "before": 10,
    "status": None,
    "queue": None,
    "task": None,
    "ageing": 60.0,
    "again": True,
    "alone": True,
    "suspect_after": 2,
    "lone_loss_limit": 3,
    "seq": 1,
    "delay": 1.0,
    "error": "x",
    "instance_id": "s",
    "revision": 1,
    "stale_after": 10.0,
    "dispatched": 1,
    "since": None,
    "until": None,
    "skip": 0,
    "version": 1,
    "who": "me",
    "what": "set",
    "values": "{}",
    "keep": 60.0,
    "after": 3,
    "token_id": "t",
    "name": "x",
    "digest": bytes(32),
    "scopes": ["read"],
    "rate": None,
    "lifetime": 60.0,
    "schedule": "{}",
    "replace": True,
    "decisions": "[]",
    "without": [],
    "revisions": [],
    "fire_at": datetime(2026, 1, 31, tzinfo=UTC),
    "key": "queue.a.paused",
    "priority": 5,
    "schedule_at": datetime(2026, 1, 31, tzinfo=UTC),
    "low": 0,
    "workers": 10,
    "longest": 3,
    "job": 1,
    "result": "1",
    "progress": None,
    "pid": 1,
    "xid": "1",
}

#: Ways in which each frequent statement may read the live jobs: by row, by primary key, or by its index.
HOT = {
    # By jobs_claimed only for a job that has lost workers.
    "claim": {"Tid Scan", "jobs_pkey", "jobs_claimed"},
    "suspects": {"jobs_pkey"},
    "put_off": {"Tid Scan", "jobs_pkey"},
    "cancel": {"jobs_pkey"},
    "settle": {"Tid Scan", "jobs_pkey"},
    "note": {"jobs_pkey"},
    "log": {"jobs_pkey"},
    "reoffer": {"Tid Scan", "jobs_pkey"},
    "heartbeat": {"jobs_pkey"},
    "heartbeat_idle": set(),
    "dispatch": {"Tid Scan", "jobs_due"},
    "free_jobs": {"Tid Scan", "jobs_claimed", "jobs_pkey"},
    "unclaimed": {"jobs_unclaimed"},
    "fire": {"jobs_pkey"},
    "fire_waiting": {"jobs_pkey"},
    "close_fires": {"jobs_pkey"},
    "explain_job": {"jobs_pkey"},
    "explain_queue": {"jobs_due", "jobs_unclaimed", "jobs_claimed"},
}


def values(name: str) -> dict[str, Any]:
    names = set(re.findall(r"%\((\w+)\)s", statement(name)))
    parameters = {key: PARAMETERS[key] for key in names}
    if name == "open_session":
        parameters["id"] = HOLDER
    if name == "schedules":
        parameters["after"] = ""
    if name == "explain_queue":
        parameters["queue"] = "default"
    if name == "end_expired":
        parameters["before"] = None
    return parameters


def test_every_statement_is_used_and_every_used_one_exists() -> None:
    used = {name for module in MODULES for name in re.findall(r'statement\("(\w+)"\)', module.read_text())}
    assert used == set(names())


def test_every_statement_begins_with_one_sentence_about_itself() -> None:
    for name in names():
        text = statement(name)
        assert re.search(r"-- [A-Z][^\n]+[.]", text), name
        assert (FOLDER / f"{name}.sql").is_file()


@pytest.mark.parametrize("name", names())
def test_every_statement_is_valid(postgres_dsn: str, name: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute(f"EXPLAIN {statement(name)}".encode(), values(name))


def generic_plan(connection: psycopg.Connection[Any], name: str) -> dict[str, Any]:
    """Return the plan that a lane makes once and uses for every execution."""
    given = values(name)
    numbers = {key: f"${number}" for number, key in enumerate(given, 1)}
    connection.execute(f"PREPARE {name} AS {statement(name) % numbers}".encode())
    placeholders = ", ".join(f"%({key})s" for key in given)
    cursor = psycopg.ClientCursor(connection)
    (row,) = cursor.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({placeholders})".encode(), given).fetchall()
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def ways(plan: dict[str, Any], relation: str = "jobs") -> set[str]:
    """Return the ways in which a plan reads a table."""
    kinds = set()
    if plan.get("Relation Name") == relation and plan["Node Type"] != "ModifyTable":
        kinds.add(plan.get("Index Name") or plan["Node Type"])
    for child in plan.get("Plans", []):
        kinds |= ways(child, relation)
    return kinds


@pytest.mark.parametrize("analyzed", [False, True], ids=["guessed", "analyzed"])
@pytest.mark.parametrize("jobs", [0, 100, 50_000])
def test_the_hot_statements_have_one_plan_whatever_the_table_holds(
    postgres_dsn: str, jobs: int, analyzed: bool
) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True, options=flags(ONE_PLAN)) as connection:
        connection.execute(
            "INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, created_at, schedule_at, payload)"
            " SELECT n, 'default', 'default', n %% 100, 3, '{}', now(), now(), 'null' FROM generate_series(1, %s) n",
            [jobs],
        )
        if analyzed:
            connection.execute("ANALYZE taskd.jobs")
        for name, allowed in HOT.items():
            actual = ways(generic_plan(connection, name))
            assert actual <= allowed, (name, actual)


def test_the_hot_statements_reach_notes_by_job_only(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True, options=flags(ONE_PLAN)) as connection:
        actual = {name: ways(generic_plan(connection, name), "notes") for name in HOT}
    reached = {"claim", "cancel", "settle", "free_jobs", "explain_job"}
    assert actual == {name: {"notes_pkey"} if name in reached else set() for name in HOT}


def test_output_is_stored_read_and_deleted_by_its_key_only(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True, options=flags(ONE_PLAN)) as connection:
        plan = generic_plan(connection, "log")
        assert ways(plan, "logs") == {"logs_pkey"}
        assert ways(plan, "finished_jobs") == {"finished_jobs_pkey"}
        for name in ("logs", "export_logs", "prune"):
            assert ways(generic_plan(connection, name), "logs") == {"logs_pkey"}, name


def test_an_explanation_reaches_history_by_job_only(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True, options=flags(ONE_PLAN)) as connection:
        assert ways(generic_plan(connection, "explain_job"), "finished_jobs") == {"finished_jobs_pkey"}


def test_a_retry_reaches_the_tick_of_its_job_by_that_job_only(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True, options=flags(ONE_PLAN)) as connection:
        assert ways(generic_plan(connection, "retry"), "fires") == {"fires_by_job"}


def page_ways(plan: dict[str, Any], relation: str = "jobs") -> set[str]:
    """Return the ways of a page's plan, without the join by ids, whose number PostgreSQL does not know."""
    return ways(plan, relation) - {"Bitmap Heap Scan"}


def scans(plan: dict[str, Any], relation: str) -> list[dict[str, Any]]:
    """Return the nodes of a plan that read a table."""
    nodes = [plan] if plan.get("Relation Name") == relation and plan["Node Type"] != "ModifyTable" else []
    return [*nodes, *(scan for child in plan.get("Plans", []) for scan in scans(child, relation))]


@pytest.mark.parametrize("jobs", [0, 50_000])
def test_what_looks_at_ticks_never_reads_all_jobs(postgres_dsn: str, jobs: int) -> None:
    """Test that with any number of ticks the plan begins with the open ones, and looks up their jobs."""
    with psycopg.connect(postgres_dsn, autocommit=True, options=flags(ONE_PLAN)) as connection:
        connection.execute(
            "INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, created_at, schedule_at, payload)"
            " SELECT n, 'default', 'default', 0, 3, '{}', now(), now(), 'null' FROM generate_series(1, %s) n",
            [jobs],
        )
        connection.execute(
            "INSERT INTO taskd.fires SELECT 's' || n % 50, now() - make_interval(secs => n), now(),"
            " CASE WHEN n % 20 = 0 THEN 'open' ELSE 'closed' END, n FROM generate_series(1, 20000) n"
        )
        connection.execute("ANALYZE taskd.fires")
        for name in ("fire", "fire_waiting", "close_fires"):
            nodes = scans(generic_plan(connection, name), "jobs")
            assert nodes, name
            assert all("id =" in scan.get("Index Cond", "") for scan in nodes), (name, nodes)


def fill(connection: psycopg.Connection[Any], live: int, finished: int) -> None:
    """Store live jobs, and finished ones of which each thousandth failed."""
    connection.execute(
        "INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, created_at, schedule_at, payload,"
        " dedupe_key) SELECT n, 'default', 'default', n %% 100, 3, '{}', now(), now(), 'null', 'key ' || n"
        " FROM generate_series(1, %s) n",
        [live],
    )
    connection.execute("INSERT INTO taskd.dedupe_keys SELECT dedupe_key, id FROM taskd.jobs")
    connection.execute(
        "INSERT INTO taskd.finished_jobs (id, status, task, queue, priority, attempt, worker_id, failures, crashes, losses,"
        " max_retries, backoff, created_at, schedule_at, completed_at, payload)"
        " SELECT 1000000 + n, CASE WHEN n %% 1000 = 0 THEN 'failed' ELSE 'completed' END, 'default', 'default', 0, 1, 'w',"
        " 0, 0, 0, 3, '{}', now(), now(), now(), 'null' FROM generate_series(1, %s) n",
        [finished],
    )


def tables_read(plan: dict[str, Any]) -> set[str]:
    """Return the tables that a plan reads."""
    tables = {plan["Relation Name"]} if "Relation Name" in plan and plan["Node Type"] != "ModifyTable" else set()
    return tables.union(*(tables_read(child) for child in plan.get("Plans", [])))


def plan_for(connection: psycopg.Connection[Any], name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the plan for these values."""
    cursor = psycopg.ClientCursor(connection)
    (row,) = cursor.execute(f"EXPLAIN (FORMAT JSON) {statement(name)}".encode(), given).fetchall()
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


SIZES = [(0, 0), (100, 100), (50_000, 200_000)]
PAGE = {"before": 2**63 - 1, "status": None, "queue": None, "task": None, "limit": 50, "budget": 8_000_000}


@pytest.mark.parametrize("analyzed", [False, True], ids=["guessed", "analyzed"])
@pytest.mark.parametrize(("live", "finished"), SIZES)
def test_storing_jobs_reads_no_table_whatever_the_tables_hold(
    postgres_dsn: str, live: int, finished: int, analyzed: bool
) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True, options=flags(SUBMIT_OPTIONS)) as connection:
        fill(connection, live, finished)
        if analyzed:
            connection.execute("ANALYZE")
        plan = generic_plan(connection, "submit")
        assert tables_read(plan) == set()
        assert "dedupe_keys_pkey" in json.dumps(plan)  # it finds a taken key
        plan = generic_plan(connection, "submit_apart")
        # An existing key and its job are looked up by primary key.
        assert ways(plan) <= {"jobs_pkey"}
        assert ways(plan, "finished_jobs") <= {"finished_jobs_pkey"}
        assert ways(plan, "dedupe_keys") <= {"dedupe_keys_pkey"}
        assert "dedupe_keys_pkey" in json.dumps(plan)


@pytest.mark.parametrize("analyzed", [False, True], ids=["guessed", "analyzed"])
def test_one_job_and_the_first_pages_are_found_along_an_index_of_large_tables(
    postgres_dsn: str, analyzed: bool
) -> None:
    """Test the plans for these values and for any, since PostgreSQL may choose either kind.

    PostgreSQL knows a filter's number of jobs only after an ANALYZE; until then it may read the whole table.
    """
    by_id, by_status = {"finished_jobs_pkey"}, {"finished_jobs_unsuccessful"}
    with psycopg.connect(postgres_dsn, autocommit=True, options="-c jit=off") as connection:
        fill(connection, *SIZES[-1])
        if analyzed:
            connection.execute("ANALYZE")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        for plan in (plan_for(connection, "job", {"id": 5}), generic_plan(connection, "job")):
            assert (ways(plan), ways(plan, "finished_jobs")) == ({"jobs_pkey"}, by_id)
        filters = {"queue": "default", "task": "default", "status": None} if analyzed else {"status": None}
        for single in ({key: value} for key, value in filters.items()):
            assert page_ways(plan_for(connection, "live_jobs", PAGE | single)) == {"jobs_pkey"}, single
            assert page_ways(plan_for(connection, "finished_jobs", PAGE | single), "finished_jobs") == by_id, single
        if analyzed:
            assert page_ways(plan_for(connection, "live_jobs", PAGE | {"status": "running"})) == {
                "jobs_claimed",
                "jobs_pkey",
            }
            assert page_ways(plan_for(connection, "live_jobs", PAGE | {"status": "queued"})) == {
                "jobs_unclaimed",
                "jobs_pkey",
            }
            for name, lookups in (("finished_jobs", by_id), ("retriable", set())):
                actual = page_ways(plan_for(connection, name, PAGE | {"status": "failed"}), "finished_jobs")
                assert actual == by_status | lookups, name
            assert page_ways(generic_plan(connection, "live_jobs")) == {"jobs_pkey"}
            assert page_ways(generic_plan(connection, "finished_jobs"), "finished_jobs") == by_id


async def test_a_job_that_was_read_while_there_were_few_is_not_searched_for_in_all_when_there_are_many(
    postgres_dsn: str,
) -> None:
    """Test tables that have grown: PostgreSQL would keep the plan for the small ones."""
    scans = b"SELECT seq_scan::int FROM pg_stat_user_tables WHERE relname = 'jobs'"
    lane = Lane(postgres_dsn, name="taskd:test", deadline=30.0)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        fill(connection, 3, 3)
        connection.execute("ANALYZE taskd.jobs, taskd.finished_jobs")
        for _ in range(20):
            await lane.fetch(statement("job"), {"id": 1})
        fill_more = (
            "INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, created_at, schedule_at, payload)"
        )
        connection.execute(
            f"{fill_more} SELECT 10 + n, 'x', 'x', 0, 3, '{{}}', now(), now(), 'null' FROM generate_series(1, 20000) n".encode()
        )
        await lane.fetch("SELECT pg_stat_force_next_flush()")
        await lane.fetch("SELECT 1")
        before = connection.execute(scans).fetchone()
        (row,) = await lane.fetch(statement("job"), {"id": 1})
        await lane.fetch("SELECT pg_stat_force_next_flush()")
        await lane.fetch("SELECT 1")
        assert row[0] == 1
        assert connection.execute(scans).fetchone() == before
    await lane.close()


async def test_what_counts_many_jobs_does_so_on_one_core(postgres_dsn: str) -> None:
    """Test it with settings of this database that give few jobs the plans of a million."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        fill(connection, 10_000, 0)
        connection.execute("ANALYZE taskd.jobs")
        for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {setting} = 0".encode())
    explain = f"EXPLAIN {statement('counts')}"
    lane = Lane(postgres_dsn, name="taskd:test", deadline=30.0)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        assert "Gather" in str(connection.execute(explain.encode()).fetchall())
        assert "Gather" not in str(await lane.fetch(explain))
    await lane.close()


@pytest.mark.parametrize("analyzed", [False, True], ids=["guessed", "analyzed"])
@pytest.mark.parametrize(("live", "finished"), SIZES)
def test_what_is_counted_for_metrics_and_stats_is_never_history(
    postgres_dsn: str, live: int, finished: int, analyzed: bool
) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True, options="-c jit=off") as connection:
        fill(connection, live, finished)
        if analyzed:
            connection.execute("ANALYZE")
        assert tables_read(plan_for(connection, "counts", {})) == {"jobs", "finished_counts", "leader"}
        assert tables_read(plan_for(connection, "depths", {"queues": None, "limit": 500})) == {"jobs"}
