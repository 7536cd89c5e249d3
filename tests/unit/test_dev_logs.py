"""Tests of the lines of child processes that reach the terminal, and of the children's environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskd.dev.demo_jobs import LOW, URGENT, ExpectedJob, Watched, urgent_went_first
from taskd.dev.logs import Tail, etcd_warning, postgres_warning, taskd_warning
from taskd.dev.process_spec import environment
from taskd.dev.restarter import describe


def test_a_warning_is_shown_with_its_context_and_the_last_line_of_a_traceback() -> None:
    line = '{"event": "attempt ended", "level": "warning", "job": 7, "error": "Traceback\\n  File x\\nKeyError: 1"}'
    assert taskd_warning(line) == "attempt ended job=7 error=KeyError: 1"


def test_routine_is_not_shown_and_text_that_is_no_log_line_is() -> None:
    assert taskd_warning('{"event": "serving", "level": "info"}') is None
    assert taskd_warning("error: the app does not import") == "error: the app does not import"
    assert taskd_warning("") is None


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('2026 [7] FATAL:  data directory "x" has wrong ownership', 'data directory "x" has wrong ownership'),
        ("2026 [7] FATAL:  the database system is starting up", None),
        ("2026 [7] WARNING:  terminating connection because of crash", None),
        ("2026 [7] LOG:  checkpoint starting", None),
    ],
)
def test_of_postgres_only_its_own_failures_are_shown(line: str, shown: str | None) -> None:
    assert postgres_warning(line) == shown


def test_of_etcd_only_errors_are_shown() -> None:
    assert etcd_warning('{"level": "error", "msg": "disk full"}') == "disk full"
    assert etcd_warning('{"level": "warn", "msg": "slow fdatasync"}') is None


def test_a_tail_starts_at_the_end_and_counts_repeats(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\n", "utf-8")
    tail = Tail(log, taskd_warning)
    with log.open("a", encoding="utf-8") as file:
        file.write("try 1 failed\ntry 2 failed\nhalf a li")
    assert list(tail.messages()) == ["try 1 failed"]
    with log.open("a", encoding="utf-8") as file:
        file.write("ne\n")
    assert list(tail.messages()) == ["half a line"]


def test_the_end_of_a_process_is_described_in_words() -> None:
    assert describe(3) == "exit status 3"
    assert describe(-9) == "killed by SIGKILL"
    assert describe(None) == "it never ran"


def test_no_name_of_a_setting_leads_the_children_to_other_servers() -> None:
    foreign = {
        "POSTGRES_DSN": "x",
        "POSTGRES_DSN_FILE": "x",
        "TASKD_POSTGRES__DSN_FILE": "x",
        "TASKD_postgres__dsn": "x",
        "PATH": "/bin",
        "POSTGRES_PASSWORD": "the user's own",
    }
    assert environment({("postgres", "dsn"): "ours"}, foreign) == {
        "PATH": "/bin",
        "POSTGRES_PASSWORD": "the user's own",
        "TASKD_POSTGRES__DSN": "ours",
    }


def _watched(priority: int, started: str) -> Watched:
    watched = Watched(ExpectedJob(what="", fields={}), 1)
    watched.job = {"id": 1, "status": "completed", "attempt": 1, "priority": priority, "started_at": started}
    return watched


def test_the_demo_checks_that_urgent_jobs_went_first() -> None:
    early, late = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"
    assert urgent_went_first([_watched(LOW, late), _watched(URGENT, early)])
    assert not urgent_went_first([_watched(LOW, early), _watched(URGENT, late)])
    assert not urgent_went_first([])


def test_a_job_that_did_not_end_as_expected_is_named() -> None:
    watched = _watched(LOW, "2026-01-01T00:00:00Z")
    assert watched.problem() is None
    watched.job["status"] = "failed"
    assert watched.problem() == "job 1 () is failed, not completed"
