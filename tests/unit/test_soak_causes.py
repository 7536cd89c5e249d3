"""Tests of lines of logs: the loud ones, and their causes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.soak.causes import Fault, Line, explain, loud

NOW = 1_800_000_000.0


def log(event: str, level: str = "warning", **fields: Any) -> str:
    """Return a line as taskd writes it."""
    at = datetime.fromtimestamp(NOW, UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"event": event, "level": level, "timestamp": at, **fields})


def cause(process: str, text: str, *faults: Fault) -> str | None:
    """Return the cause of the one loud line."""
    (line,) = loud(process, text)
    return explain(line, faults)


def test_only_warnings_and_errors_are_loud() -> None:
    text = "\n".join([log("working", "info"), log("restarted", "warning"), log("failed", "error"), ""])
    assert [(line.at, line.level, line.text) for line in loud("s1", text)] == [
        (NOW, "warning", "restarted"),
        (NOW, "error", "failed"),
    ]


def test_a_line_in_another_format_is_loud_and_has_no_cause() -> None:
    text = log("working", "info") + "\nTraceback (most recent call last):"
    (line,) = loud("s1", text)
    assert (line.level, line.at) == ("raw", NOW)
    assert explain(line, [Fault(NOW, "SIGKILL", "w2")]) is None


def test_jobs_of_a_worker_that_was_ended_begin_again() -> None:
    text = log("restarted jobs of lost workers", workers=["w2"], jobs=4, failed=0)
    assert cause("s1", text, Fault(NOW - 12, "SIGKILL", "w2")) is not None
    assert cause("s1", text) is None
    assert cause("s1", text, Fault(NOW - 31, "SIGKILL", "w2")) is None  # too long ago
    assert cause("s1", text, Fault(NOW + 5, "SIGKILL", "w2")) is None  # not yet
    assert cause("s1", text, Fault(NOW - 12, "SIGKILL", "w3")) is None  # another one
    assert cause("s1", text, Fault(NOW - 12, "start", "w2")) is None
    assert cause("w1", text, Fault(NOW - 12, "SIGKILL", "w2")) is None  # workers do not reap


def test_a_wait_for_a_session_is_explained_by_the_workers_own_death() -> None:
    text = log("waiting: another process has this worker's id")
    assert cause("w2", text, Fault(NOW - 3, "SIGKILL", "w2")) is not None
    assert cause("w2", text, Fault(NOW - 3, "SIGKILL", "w3")) is None


def test_an_attempt_may_fail_only_as_the_load_asked() -> None:
    asked = "RuntimeError: the first failure, as it was asked to"
    assert cause("w1", log("attempt ended", outcome="failed", error=asked)) is not None
    assert cause("w1", log("attempt ended", outcome="failed", error="KeyError: 1")) is None
    assert cause("w1", log("attempt ended", outcome="released"), Fault(NOW - 3, "SIGTERM", "w1")) is not None
    assert cause("w1", log("attempt ended", outcome="crashed"), Fault(NOW - 3, "SIGTERM", "w1")) is None


@pytest.mark.parametrize(
    "event",
    [
        "attempt fenced off: the claim had been lost",
        "stopping an attempt whose claim is gone",
        "this worker's session is over: its jobs were given to others; beginning again",
        "PostgreSQL is away; waiting for it",
        "no longer leading",
        "a request failed",
    ],
)
def test_a_line_that_no_restart_of_a_worker_causes_has_no_cause(event: str) -> None:
    faults = [Fault(NOW - 1, what, name) for what in ("SIGKILL", "SIGTERM", "start") for name in ("w1", "s1")]
    assert cause("w1", log(event), *faults) is None
    assert cause("s1", log(event, "error"), *faults) is None


def test_lines_of_the_servers_are_read() -> None:
    postgres = (
        "2027-01-15 08:00:00.250 UTC [77] LOG:  checkpoint starting: time\n"
        "2027-01-15 08:00:00.250 UTC [77] ERROR:  deadlock detected\n"
        "2027-01-15 08:00:00.250 UTC [77] DETAIL:  Process 7 waits"
    )
    assert list(loud("postgres", postgres)) == [Line("postgres", NOW + 0.25, "error", "deadlock detected")]
    redis = "5:M 15 Jan 2027 08:00:00.250 * Ready to accept\n5:M 15 Jan 2027 08:00:00.250 # Out of memory"
    assert [(line.level, line.text) for line in loud("redis", redis)] == [("warning", "Out of memory")]
    etcd = '{"level":"warn","ts":"2027-01-15T08:00:00.250000Z","caller":"x.go:1","msg":"apply request took too long"}'
    assert [(line.at, line.level) for line in loud("etcd", etcd)] == [(NOW + 0.25, "warn")]
    assert cause("etcd", etcd) is not None
    assert cause("etcd", etcd.replace("apply request took too long", "database space exceeded")) is None


def test_a_redis_line_counts_even_with_a_date_of_another_language() -> None:
    assert [line.level for line in loud("redis", "5:M 15 Foo 2027 08:00:00.250 # Out of memory")] == ["warning"]
