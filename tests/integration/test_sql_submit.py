"""Test taskd.submit and taskd.submit_many: the same jobs, refusals and dedupe as by HTTP, in a client's transaction."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from taskd.api.submission import parse
from taskd.dev.servers.postgres import PostgresServer
from taskd.domain.errors import StoreUnavailable
from taskd.store.migrations import migrate
from taskd.store.statements import statement
from tests.integration.storage import Storage
from tests.servers import wait_until, wait_until_async
from tests.submissions import BAD, GOOD, UNSTORABLE

MANY = "SELECT * FROM taskd.submit_many(%s)"
#: Columns that do not depend on the time.
STORED = (
    "SELECT task, queue, priority, max_retries, backoff, timeout, dedupe_key, parent_id, metadata, payload::text, status,"
    " attempt,"
    " extract(epoch FROM schedule_at - created_at)::float8 AS wait, schedule_at FROM taskd.jobs WHERE id = %s"
)


@pytest.fixture
def connection(postgres_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_dsn, autocommit=True) as opened:
        yield opened


def submit_one(connection: psycopg.Connection[Any], document: str) -> tuple[int, bool]:
    (row,) = connection.execute(MANY, [f"[{document}]"]).fetchall()
    return row[0], row[1]


@pytest.mark.parametrize("document", GOOD)
async def test_a_good_job_is_the_same_row_as_by_http(
    store: Storage, connection: psycopg.Connection[Any], document: str
) -> None:
    job_id, duplicate = submit_one(connection, document)
    assert not duplicate
    (by_http,) = await store.submit(await parse(document.encode(), 1_000_000))
    if by_http.duplicate:  # one job for each key: that of SQL
        assert by_http.id == job_id
        return
    by_sql_row, by_http_row = (connection.execute(STORED, [row_id]).fetchone() for row_id in (job_id, by_http.id))
    assert by_sql_row is not None
    assert by_http_row is not None
    assert by_sql_row[:12] == by_http_row[:12]
    assert by_sql_row[12] == by_http_row[12] or by_sql_row[13] == by_http_row[13]  # due by a delay or at a time


@pytest.mark.parametrize(("document", "field"), BAD)
def test_a_bad_job_is_refused_with_its_field(connection: psycopg.Connection[Any], document: str, field: str) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=f"^taskd: {field}: ") as alone:
        submit_one(connection, document)
    assert alone.value.sqlstate == "22023"
    where = "jobs[1]" if field == "body" else f"jobs[1].{field}"
    with pytest.raises(errors.InvalidParameterValue) as second:
        connection.execute(MANY, [f'[{{"payload": 1}}, {document}]'])
    assert str(second.value).startswith(f"taskd: {where}" if field != "body" else "taskd: jobs[1].body: ")
    assert connection.execute("SELECT count(*) FROM taskd.jobs").fetchone() == (0,)


@pytest.mark.parametrize("document", [document for document, _ in UNSTORABLE])
def test_what_postgresql_cannot_store_is_refused(connection: psycopg.Connection[Any], document: str) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=r"^taskd: jobs\[1\]: PostgreSQL cannot store it"):
        connection.execute(MANY, [f'[{{"payload": 1}}, {document}]'])


@pytest.mark.parametrize("jobs", ["{}", "null", "1", None])
def test_what_is_no_array_is_refused(connection: psycopg.Connection[Any], jobs: str | None) -> None:
    with pytest.raises(errors.InvalidParameterValue, match="jobs: must be an array"):
        connection.execute(MANY, [jobs])
    assert connection.execute(MANY, ["[]"]).fetchall() == []


def test_a_payload_over_its_limit_is_refused_and_the_limit_is_the_databases(
    connection: psycopg.Connection[Any], postgres_dsn: str
) -> None:
    text = json.dumps([{"payload": "x" * (1024 * 1024 - 2)}, {"payload": 1}])
    assert len(connection.execute(MANY, [text]).fetchall()) == 2
    with pytest.raises(errors.ProgramLimitExceeded, match=r"jobs\[1\].payload: is larger than 1048576 bytes"):
        connection.execute(MANY, [json.dumps([{"payload": 1}, {"payload": "x" * (1024 * 1024 - 1)}])])
    connection.execute("SET taskd.max_job_bytes = 100")
    with pytest.raises(errors.ProgramLimitExceeded, match=r"taskd: payload: is larger than 100 bytes"):
        submit_one(connection, json.dumps({"payload": "x" * 99}))


def test_one_job_has_named_parameters(connection: psycopg.Connection[Any]) -> None:
    query = (
        "SELECT id, duplicate FROM taskd.submit('mail', '{\"to\": \"ada\"}', queue => 'mails', priority => 7,"
        " dedupe_key => 'k',"
        " schedule_at => '2026-02-01 12:00+01', max_retries => 0, retry_backoff => '{\"jitter\": false}', timeout => 1.5,"
        " metadata => '{\"a\": null}', parent_id => 3)"
    )
    (job_id, duplicate) = connection.execute(query).fetchone() or (0, None)
    assert duplicate is False
    row = connection.execute(STORED, [job_id]).fetchone()
    assert row is not None
    backoff = {"initial": 1.0, "factor": 2.0, "max": 3600.0, "jitter": False}
    assert row[:12] == ("mail", "mails", 7, 0, backoff, 1.5, "k", 3, {"a": None}, '{"to": "ada"}', "pending", 0)
    assert row[13].isoformat() == "2026-02-01T11:00:00+00:00"
    again = connection.execute("SELECT * FROM taskd.submit('mail', '1', dedupe_key => 'k')").fetchone()
    assert again == (job_id, True)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ("NULL, '1'", "task"),
        ("'a', NULL", "payload"),
        ("'a b', '1'", "task"),
        ("'a', '1', priority => 101", "priority"),
        ("'a', '1', delay => 'NaN'", "delay"),
        ("'a', '1', delay => 5, schedule_at => now()", "delay"),
        ("'a', '1', schedule_at => 'infinity'", "schedule_at"),
        ("'a', '1', timeout => 0", "timeout"),
        ("'a', '1', dedupe_key => ''", "dedupe_key"),
        ("'a', '1', metadata => '{\"a\": []}'", "metadata"),
    ],
)
def test_a_bad_parameter_is_named(connection: psycopg.Connection[Any], arguments: str, field: str) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=f"^taskd: {field}: "):
        connection.execute(f"SELECT taskd.submit({arguments})")


def test_a_job_exists_if_and_only_if_its_transaction_commits(connection: psycopg.Connection[Any]) -> None:
    count = "SELECT count(*) FROM taskd.jobs"
    with connection.transaction(force_rollback=True):
        submit_one(connection, '{"payload": 1, "dedupe_key": "k"}')
        assert connection.execute(count).fetchone() == (1,)
    assert connection.execute(count).fetchone() == (0,)
    with connection.transaction():
        with connection.transaction(force_rollback=True):
            submit_one(connection, '{"payload": 1, "dedupe_key": "k"}')
        job_id, duplicate = submit_one(connection, '{"payload": 2, "dedupe_key": "k"}')
        assert not duplicate
        with connection.transaction(force_rollback=True):
            assert submit_one(connection, '{"payload": 3, "dedupe_key": "k"}') == (job_id, True)
    assert connection.execute("SELECT id FROM taskd.jobs").fetchall() == [(job_id,)]


def test_a_trigger_submits(connection: psycopg.Connection[Any]) -> None:
    connection.execute("""
        CREATE TABLE orders (id bigint PRIMARY KEY, total numeric);
        CREATE FUNCTION ship() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM taskd.submit('ship', to_jsonb(NEW), dedupe_key => 'order-' || NEW.id);
            RETURN NEW;
        END $$;
        CREATE TRIGGER shipping AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION ship();
        INSERT INTO orders SELECT n, n * 1.10 FROM generate_series(1, 100) n;
    """)
    with pytest.raises(errors.UniqueViolation):
        connection.execute("INSERT INTO orders VALUES (101, 1), (1, 1)")
    rows = connection.execute("SELECT payload FROM taskd.jobs ORDER BY id").fetchall()
    assert [row[0]["id"] for row in rows] == list(range(1, 101))


def test_duplicates_within_one_array_and_among_many_come_in_its_order(connection: psycopg.Connection[Any]) -> None:
    first, _ = submit_one(connection, '{"payload": 0, "dedupe_key": "b"}')
    rows = connection.execute(
        MANY, [json.dumps([{"payload": n, "dedupe_key": key} for n, key in enumerate(["a", "b", "a", "c"])])]
    ).fetchall()
    assert [duplicate for _, duplicate in rows] == [False, True, True, False]
    assert (rows[1][0], rows[2][0]) == (first, rows[0][0])


def test_two_hundred_submitters_of_one_key_by_both_ways_make_one_job(postgres_dsn: str, store: Storage) -> None:
    document = b'{"payload": 1, "dedupe_key": "k"}'
    results: list[tuple[int, bool]] = []

    def submit() -> None:
        with psycopg.connect(postgres_dsn) as connection:
            for _ in range(10):
                results.append(submit_one(connection, document.decode()))
                connection.commit()

    async def by_http() -> None:
        for _ in range(50):
            done = await store.intake.submit(await parse(document, 1000))
            results.append((done.id, done.duplicate))

    threads = [threading.Thread(target=submit) for _ in range(15)]
    for thread in threads:
        thread.start()
    asyncio.run(by_http())
    for thread in threads:
        thread.join()
    assert len(results) == 200
    assert len({job_id for job_id, _ in results}) == 1
    assert sum(not duplicate for _, duplicate in results) == 1


def test_a_key_that_is_taken_is_not_held_by_who_asked_for_it(
    postgres_dsn: str, connection: psycopg.Connection[Any]
) -> None:
    """Test a transaction that continues for long after a duplicate: no other client with that key waits for it."""
    first = submit_one(connection, '{"payload": 1, "dedupe_key": "k"}')
    with psycopg.connect(postgres_dsn) as slow:
        assert submit_one(slow, '{"payload": 1, "dedupe_key": "k"}') == (first[0], True)
        connection.execute("SET lock_timeout = '2s'")
        connection.execute(statement("submit"), {"jobs": json.dumps([{"dedupe_key": "k", **DEFAULTS}])})


DEFAULTS = {"task": "default", "queue": "default", "priority": 0, "max_retries": 3, "retry_backoff": {}, "payload": 1}


def test_the_statement_is_that_of_a_submit_by_http(connection: psycopg.Connection[Any]) -> None:
    """Test that their shared parts are equal, so that a change of one is not forgotten in the other."""
    (source,) = connection.execute("SELECT prosrc FROM pg_proc WHERE proname = 'submit_many'").fetchone() or ("",)

    def squeezed(text: str) -> str:
        return " ".join(line.partition("--")[0].strip() for line in text.splitlines())

    of_sql, of_http = squeezed(source), squeezed(statement("submit")).replace("%(jobs)s::json", "$1")
    begin, middle, end = (
        of_http.partition("WITH input")[1:],
        of_http.partition("), keys AS (")[0],
        "LEFT JOIN keys ON keys.key = t.dedupe_key",
    )
    assert middle.strip() in of_sql
    assert begin
    columns = of_http.partition("INSERT INTO taskd.jobs (")[2].partition(")")[0]
    assert f"INSERT INTO taskd.jobs ({columns})" in of_sql
    assert of_sql.count(end) == of_http.count(end) == 2
    assert of_http.rpartition("SELECT")[2].partition(", t.created_at")[0] in of_sql


def test_a_commit_rings_once_and_not_before(postgres_dsn: str, connection: psycopg.Connection[Any]) -> None:
    connection.execute("LISTEN taskd_jobs")
    with psycopg.connect(postgres_dsn) as other, psycopg.connect(postgres_dsn) as third:
        for _ in range(3):
            submit_one(other, '{"payload": 1}')
        submit_one(third, '{"payload": 1}')
        third.commit()  # another client is about to notify
        assert list(connection.notifies(timeout=0.2)) == []
        other.commit()
        assert len(list(connection.notifies(timeout=5, stop_after=1))) == 1
        assert list(connection.notifies(timeout=0.2)) == []
        other.execute("SET taskd.notify = off")
        submit_one(other, '{"payload": 1}')
        other.commit()
        assert list(connection.notifies(timeout=0.2)) == []


def test_a_role_needs_two_grants_and_can_do_nothing_else(private_postgres: PostgresServer) -> None:
    dsn = private_postgres.dsn
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("CREATE ROLE shop LOGIN")
        with psycopg.connect(dsn, user="shop", autocommit=True) as shop:
            with pytest.raises(errors.InsufficientPrivilege):
                submit_one(shop, '{"payload": 1}')
            owner.execute("GRANT USAGE ON SCHEMA taskd TO shop")
            with pytest.raises(errors.InsufficientPrivilege, match="submit_many"):
                submit_one(shop, '{"payload": 1}')
            owner.execute("GRANT EXECUTE ON FUNCTION taskd.submit, taskd.submit_many TO shop")
            # The role's own functions and operators are not used.
            owner.execute("GRANT CREATE ON SCHEMA public TO shop")
            shop.execute("CREATE FUNCTION public.length(text) RETURNS int LANGUAGE sql AS 'SELECT 1 / 0'")
            shop.execute("SET search_path = public, pg_catalog")
            assert submit_one(shop, '{"payload": 1, "dedupe_key": "k"}')[1] is False
            assert shop.execute("SELECT duplicate FROM taskd.submit('a', '1')").fetchone() == (False,)
            for query in (
                "SELECT * FROM taskd.jobs",
                "INSERT INTO taskd.dedupe_keys VALUES ('x', 1)",
                "SELECT nextval('taskd.job_ids')",
                "SELECT taskd.complete(1, 1, NULL, '1')",
                "SELECT taskd.session_of(1, 1)",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    shop.execute(query)


def test_a_deadlock_of_keys_is_ended_by_postgresql(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as first, psycopg.connect(postgres_dsn) as second:
        submit_one(first, '{"payload": 1, "dedupe_key": "a"}')
        submit_one(second, '{"payload": 1, "dedupe_key": "b"}')
        failed: list[Exception] = []

        def cross(connection: psycopg.Connection[Any], key: str) -> None:
            try:
                submit_one(connection, json.dumps({"payload": 1, "dedupe_key": key}))
                connection.commit()
            except errors.DeadlockDetected as error:
                failed.append(error)
                connection.rollback()

        threads = [threading.Thread(target=cross, args=pair) for pair in ((first, "b"), (second, "a"))]
        for thread in threads:
            thread.start()
        wait_until(lambda: not any(thread.is_alive() for thread in threads))
        assert len(failed) == 1


async def test_a_key_that_a_transaction_holds_keeps_no_other_from_submitting(store: Storage, postgres_dsn: str) -> None:
    def document(key: str) -> bytes:
        return json.dumps({"payload": 1, **({"dedupe_key": key} if key else {})}).encode()

    with psycopg.connect(postgres_dsn) as slow:
        job_id, _ = submit_one(slow, '{"payload": 1, "dedupe_key": "held"}')
        keys = ["", *(f"k{n}" for n in range(20)), "held", *([""] * 20)]
        # A single one comes first, so that the others share the INSERT with the one that is held.
        results = await asyncio.gather(
            *[store.intake.submit(await parse(document(key), 1000)) for key in keys], return_exceptions=True
        )
        failed = {key: result for key, result in zip(keys, results, strict=True) if isinstance(result, Exception)}
        assert list(failed) == ["held"]
        assert isinstance(failed["held"], StoreUnavailable)
        assert not failed["held"].outcome_unknown
        with pytest.raises(StoreUnavailable, match="holds this dedupe_key"):  # at once, after the recent try
            await store.intake.submit(await parse(document("held"), 1000))
        with pytest.raises(StoreUnavailable):
            await store.intake.submit_many([await parse(document("held"), 1000)])
        slow.commit()

    with psycopg.connect(postgres_dsn) as slow:
        slow.execute("LOCK TABLE taskd.jobs")
        errors = await asyncio.gather(
            *[store.intake.submit(await parse(document(key), 1000)) for key in ("", "", "x")], return_exceptions=True
        )
        assert [type(error).__name__ for error in errors] == ["RowHeld", "RowHeld", "StoreUnavailable"]

    async def taken() -> bool:
        try:
            done = await store.intake.submit(await parse(document("held"), 1000))
        except StoreUnavailable:
            return False
        assert (done.id, done.duplicate) == (job_id, True)
        return True

    await wait_until_async(taken)
