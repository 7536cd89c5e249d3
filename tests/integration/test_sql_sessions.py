"""Test taskd's SQL functions in sessions with all kinds of settings: the jobs, refusals and ids are the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

#: Settings that change the session's rights: a read-only session cannot write.
NOT_OURS = {"default_transaction_read_only", "transaction_read_only", "default_transaction_deferrable",
            "transaction_deferrable", "default_transaction_isolation", "transaction_isolation"}  # fmt: skip
#: Values beyond those of booleans and enums.
MORE = {
    "extra_float_digits": ["-10", "-15", "0", "3"],
    "DateStyle": ["'SQL, DMY'", "'German'", "'Postgres, MDY'"],
    "TimeZone": ["'Asia/Kathmandu'", "'America/St_Johns'", "-3.5"],
    "timezone_abbreviations": ["'India'"],
    "search_path": ["''", "'public'", "'pg_temp, public'"],
    "join_collapse_limit": ["1"],
    "from_collapse_limit": ["1"],
    "work_mem": ["64"],
    "jit_above_cost": ["0"],
    "cpu_tuple_cost": ["1000"],
    "default_text_search_config": ["'simple'"],
}
DOCUMENT = {
    "payload": {"text": 'a\\b "c" \\u00e9 \n', "n": 0.1, "big": 12345678901234567890},
    "task": "a.b", "queue": "q", "delay": 3600.25, "timeout": 0.1, "dedupe_key": "k\\'", "metadata": {"a\\": "b\\", "f": 1.25},
    "retry_backoff": {"initial": 0.3, "factor": 1.7},
}  # fmt: skip
BAD = {"payload": 1, "task": "größe\\"}
AT = "2026-02-01T12:00:00.123456+05:45"
ROW = (
    "SELECT task, queue, priority, backoff::text, timeout::text, dedupe_key, metadata::text, payload::text,"
    " extract(epoch FROM CASE WHEN dedupe_key IS NULL THEN schedule_at - 'epoch' ELSE schedule_at - created_at END)::text"
    " FROM taskd.jobs ORDER BY id"
)


@pytest.fixture
def connection(postgres_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_dsn) as opened:
        yield opened


def calls(connection: psycopg.Connection[Any], name: str = "", value: str = "") -> list[Any]:
    """Submit in all ways under this setting, return the results and rows, and roll back."""
    outcomes: list[Any] = []
    with connection.transaction(force_rollback=True):
        if name:
            connection.execute(f"SET LOCAL {name} = {value}")
        many = connection.execute("SELECT duplicate FROM taskd.submit_many(%s)", [json.dumps([DOCUMENT, DOCUMENT])])
        outcomes.append(many.fetchall())
        outcomes.append(connection.execute("SELECT duplicate FROM taskd.submit('x', %s::jsonb, delay => 3600.25::float8,"
            " timeout => 0.1::float8, dedupe_key => %s, metadata => %s::jsonb)",
            [json.dumps(DOCUMENT["payload"]), "other", json.dumps(DOCUMENT["metadata"])]).fetchall())  # fmt: skip
        connection.execute("SELECT taskd.submit('at', '1', schedule_at => %s::timestamptz)", [AT])
        for bad in ("SELECT taskd.submit_many(%s)", "SELECT taskd.submit_many(json_build_array(%s::json))"):
            with pytest.raises(psycopg.errors.InvalidParameterValue) as refused, connection.transaction():
                connection.execute(bad, [json.dumps([BAD]) if "build" not in bad else json.dumps(BAD)])
            outcomes.append(refused.value.diag.message_primary)
        connection.execute("SET LOCAL search_path = DEFAULT")
        for reset in ("extra_float_digits = 1", "datestyle = ISO", "intervalstyle = postgres", "timezone = UTC",
                      "standard_conforming_strings = on", "transform_null_equals = off"):  # fmt: skip
            connection.execute(f"SET LOCAL {reset}")  # for the test's queries
        outcomes.append(connection.execute(ROW).fetchall())
    return outcomes


def test_no_setting_of_a_session_changes_what_is_submitted(connection: psycopg.Connection[Any]) -> None:
    plain = calls(connection)
    with connection.transaction():
        settings = connection.execute(
            "SELECT name, vartype, setting, enumvals FROM pg_settings WHERE context = 'user' AND NOT name = ANY(%s)"
            " AND (category ~ '^(Client Connection Defaults|Query Tuning|Version and Platform)' OR name = 'jit')",
            [list(NOT_OURS)],
        ).fetchall()
    tried = 0
    for name, kind, setting, enum in settings:
        others = {"bool": ["off" if setting == "on" else "on"], "enum": [v for v in enum or [] if v != setting]}.get(
            kind, []
        )
        for value in [*others, *MORE.get(name, [])]:
            tried += 1
            assert calls(connection, name, value) == plain, (name, value)
    assert tried > 60
