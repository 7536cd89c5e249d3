"""Tests of the command line without a server: arguments, payloads, failures, exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from taskd.cli import jobview, output, submit
from taskd.cli.durations import seconds
from taskd.cli.main import run
from taskd.client import Client, ClientError
from tests.fake_server import listening, response

UNREACHABLE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Current folder without a taskd.toml, and environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("TASKD_SERVER", "TASKD_TOKEN", "LOG_LEVEL", "POSTGRES_DSN", "HTTP_ADDR"):
        monkeypatch.delenv(name, raising=False)


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on stderr; stdout must be empty."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("1.5", 1.5), ("45s", 45), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("1h30m", 5400), ("0", 0)],
)
def test_durations_read_as_people_write_them(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "m", "10x", "-5", "1m 2s", "1e3", "nan"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [1]}', {"a": [1]}),
        ("5", 5),
        ("null", None),
        ('"quoted"', "quoted"),
        ("hello world", "hello world"),
        ("NaN", "NaN"),
        ("{broken", "{broken"),
        ("[" * 100_000, "[" * 100_000),
        ("", ""),
    ],
)
def test_a_payload_is_json_or_else_a_plain_string(text: str, expected: Any) -> None:
    assert submit.read_payload(text) == expected


def test_a_payload_may_come_from_a_file_or_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job.json").write_text('{"a": 1}')
    assert submit.read_payload(f"@{tmp_path / 'job.json'}") == {"a": 1}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("é".encode())))
    assert submit.read_payload("-") == "é"


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("taskd ")


@pytest.mark.parametrize(
    "command",
    ["dev", "scheduler", "worker", "submit", "status", "list", "cancel", "retry", "migrate", "doctor", "torture"],
)
def test_each_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "Example: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "nope"),
        (["submit", "--prioritty", "3"], "--priority"),
        (["submit", "--priority", "x"], "--priority"),
        (["submit", "1", "--delay", "3x"], "not a duration"),
        (["submit", "1", "--delay", "3", "--schedule-at", "2026-01-01T00:00:00Z"], "either"),
        (["submit", "1", "--metadata", "x"], "KEY=VALUE"),
        (["submit", "@/does/not/exist"], "/does/not/exist"),
        (["submit", "1", "2"], "2"),
        (["cancel"], "ID"),
        (["--log-level", "LOUD", "migrate"], "LOUD"),
        (["worker", "--concurrency", "0"], "--concurrency"),
        (["submit", "1", "--priority", "101"], "--priority"),
        (["submit", "1", "--max-retries", "-1"], "--max-retries"),
        (["submit", "1", "--schedule-at", "2026-01-01T00:00:00"], "offset"),
        (["submit", "1", "--schedule-at", "tomorrow"], "offset"),
        (["submit", "1", "--timeout", "9" * 400], "too long"),
        (["schedule", "add", "n", "--every", "1m", "--priority", "101"], "--priority"),
        (["schedule", "add", "n", "--every", "1m", "--overlap", "never"], "--overlap"),
        (["list", "--status", "lost"], "--status"),
        (["status", "nope"], "ID"),
        (["status", "0", "--watch"], "ID"),
        (["explain", "1" * 30], "ID"),
        (["logs", "-1x"], ""),
        (["history", "export", "--since", "2026-99-99"], "--since"),
        (["cancel", "--status", "failed"], "--status"),
        (["retry", "--status", "running"], "--status"),
        (["status", "1", "--server", "ftp://x"], "not a server address"),
        (["status", "1", "--server", "http://x:99999"], "not a server address"),
        (["status", "--server", " , "], "TASKD_SERVER"),
        (["--config", "/does/not/exist", "migrate"], "/does/not/exist"),
        (["--config", "/does/not/exist", "status"], "/does/not/exist"),
        (["--config", "/", "status"], "cannot be read"),
        (["--config", "/does/not/exist"], "/does/not/exist"),
        (["--config", sys.executable, "status"], "is not valid TOML"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert says in one_error(capsys)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "--server", UNREACHABLE], "taskd dev"),
        (["status", "--server", f"{UNREACHABLE},http://127.0.0.1:2"], "http://127.0.0.1:2"),
        (["submit", "1", "--wait", "--server", UNREACHABLE], "connection refused"),
        (["cancel", "1", "--server", UNREACHABLE], "taskd dev"),
    ],
)
def test_any_other_failure_is_one_line_and_exit_code_1(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 1
    assert says in one_error(capsys)


def test_a_job_that_a_scheduler_refuses_is_a_usage_error_too(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(response("422 Unprocessable", {"detail": "payload: has a number that is out of range"})) as (url, _):
        assert run(["submit", "1e400", "--server", url]) == 2
    assert "out of range" in one_error(capsys)


def test_a_missing_libpq_is_no_bug(
    client: RecordingClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: object) -> None:
        raise ImportError("no pq wrapper available.\nAttempts made:\n- couldn't import psycopg 'c' implementation")

    monkeypatch.setattr(client, "submit", missing)
    assert run(["submit", "1"]) == 1
    assert one_error(capsys).startswith("error: libpq, PostgreSQL's client library, is missing: install it")


@pytest.mark.parametrize("group", ["", "config", "history", "schedule", "token", "worker"])
def test_no_summary_of_a_command_is_cut_at_80_columns(
    group: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*group.split(), "--help"]) == 0
    summaries = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert summaries
    assert [line for line in summaries if not line.endswith(".") or line.endswith("...")] == []


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("list --status ", ["pending", "queued", "running", "completed", "failed", "cancelled"]),
        ("cancel --status ", ["pending", "queued", "running"]),
        ("retry --status ", ["failed", "cancelled"]),
        ("history export --status ", ["completed", "failed", "cancelled"]),
        ("schedule add x --missed ", ["skip", "once", "all"]),
        ("schedule add x --overlap ", ["allow", "skip", "queue"]),
        ("--log-level ", ["DEBUG", "INFO", "WARNING", "ERROR"]),
    ],
)
def test_a_shell_completes_values(line: str, values: list[str]) -> None:
    words = f"taskd {line}"
    environment = {**os.environ, "_TASKD_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()))
    done = subprocess.run([sys.executable, "-m", "taskd"], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == values


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (["--task", "flaky", "--wait", "5"], "no PAYLOAD was given (5 is the SECONDS of --wait): null is sent\n"),
        (["--task", "flaky"], "no PAYLOAD was given: null is sent\n"),
        (["--task", "flaky", "--wait"], "no PAYLOAD was given: null is sent\n"),
        (["--task", "flaky", "null"], ""),
        (["--task", "flaky", "5", "--wait", "5"], ""),
    ],
)
def test_a_missing_payload_is_noted(
    client: RecordingClient, arguments: list[str], note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["submit", "--json", *arguments]) == 0
    assert capsys.readouterr().err == note


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--log-level", "debug", "status", "--server", UNREACHABLE]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_unknown_key_in_the_configuration_names_file_section_and_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taskd.toml").write_text("[http]\nadress = ':1'\n")
    assert run(["migrate"]) == 1
    error = one_error(capsys)
    assert "taskd.toml" in error
    assert "[http]" in error
    assert "'adress'" in error


class RecordingClient(Client):
    """Fake client that records jobs and waits instead of sending them."""

    jobs: list[dict[str, Any]]
    final = "completed"

    def __init__(self) -> None:
        super().__init__(UNREACHABLE)
        self.jobs = []
        self.waits: list[float | None] = []
        self.cancels: list[int | str] = []
        self.selected: list[tuple[str, dict[str, Any]]] = []
        self.listed: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []

    def submit(self, job: Any, key: str | None = None) -> dict[str, Any]:
        self.jobs.append(dict(job))
        return {"id": 17, "status": "pending"}

    def wait(self, job_id: int | str, seconds: float | None = None) -> dict[str, Any]:
        self.waits.append(seconds)
        return {"id": job_id, "status": self.final, "result": {"a": 1}}

    def cancel(self, job_id: int | str) -> dict[str, Any]:
        self.cancels.append(job_id)
        if job_id == "18":
            raise ClientError("job 18 is completed: too late", 409, {"job_status": "completed"})
        if job_id not in ("17", "18"):
            raise ClientError("there is no such job", 404)
        return {"id": int(job_id), "status": "cancelled"}

    def retry(self, job_id: int | str) -> dict[str, Any]:
        if job_id == "18":
            raise ClientError("job 18 is running: too early", 409, {"job_status": "running"})
        again = {"duplicate": True} if job_id == "19" else {}
        return {"id": 100 + int(job_id), "parent_id": int(job_id), "status": "pending", **again}

    def select(self, action: str, wanted: Any) -> Iterator[dict[str, Any]]:
        self.selected.append((action, dict(wanted)))
        yield {"matched": 2, "ids": [1, 2], "cursor": 1}
        yield {"matched": 1, "ids": [3], "cursor": None}

    def list_jobs(self, **wanted: Any) -> list[dict[str, Any]]:
        self.listed.append(wanted)
        return self.found[: wanted["limit"]]

    def job(self, job_id: int | str, wait: float = 0.0) -> dict[str, Any]:
        return self.found.pop(0)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> RecordingClient:
    client = RecordingClient()
    monkeypatch.setattr("taskd.cli.options.connect", lambda server: client)
    return client


def test_only_given_options_are_sent(client: RecordingClient) -> None:
    assert run(["submit", "hello"]) == 0
    assert client.jobs == [{"payload": "hello"}]


def test_every_option_becomes_its_field(client: RecordingClient) -> None:
    line = "submit 1 --task t --queue q --priority 5 --dedupe-key k --delay 10m --max-retries 0 --timeout 1m"
    assert run([*line.split(), "--metadata", "a=b", "--metadata", "v=1.10=x"]) == 0
    assert client.jobs == [
        {
            "payload": 1,
            "task": "t",
            "queue": "q",
            "priority": 5,
            "dedupe_key": "k",
            "delay": 600.0,
            "max_retries": 0,
            "timeout": 60.0,
            "metadata": {"a": "b", "v": "1.10=x"},
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "payload", "wait"),
    [
        (["1", "--wait"], 1, None),
        (["--wait", "10"], None, 10.0),
        (["--wait", "hello"], "hello", None),
        (["--wait=2.5", "1"], 1, 2.5),
        (["--wait", "--json"], None, None),
        (["--wait", "--", "10"], 10, None),
    ],
)
def test_wait_takes_seconds_or_none(
    client: RecordingClient, arguments: list[str], payload: object, wait: float | None
) -> None:
    assert run(["submit", *arguments]) == 0
    assert client.jobs == [{"payload": payload}]
    assert client.waits == [wait]


def test_a_retry_names_the_new_job_also_when_it_was_made_before(
    client: RecordingClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["retry", "17", "19"]) == 0
    assert capsys.readouterr().out == (
        "job 17 retried as job 117\njob 19 was retried before, as job 119, which is pending\n"
    )
    assert run(["retry", "18", "17", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == [
        {"id": 18, "status": "running", "error": "job 18 is running: too early"},
        {"id": 17, "retried_as": 117, "status": "pending"},
    ]


@pytest.mark.parametrize(("command", "done"), [("cancel", "cancelled"), ("retry", "retried")])
def test_a_filter_takes_all_pages(
    client: RecordingClient, command: str, done: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "--queue", "q", "--yes"]) == 0
    assert capsys.readouterr().out == f"3 jobs {done}\n"
    assert run([command, "--queue", "q", "--task", "t", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"would {command} 3 jobs\n"
    assert client.selected == [
        (command, {"queue": "q"}),
        (command, {"queue": "q", "task": "t", "dry_run": True}),
    ]


def test_nothing_is_changed_by_a_filter_without_a_yes(
    client: RecordingClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cancel", "--queue", "q"]) == 2
    assert "--yes" in one_error(capsys)
    assert run(["cancel", "--queue", "q", "--json"]) == 2
    assert all(fields.get("dry_run") for _, fields in client.selected)
    assert run(["cancel", "17", "--queue", "q", "--yes"]) == 2


def test_a_list_says_how_to_see_older_jobs(client: RecordingClient, capsys: pytest.CaptureFixture[str]) -> None:
    job = {"status": "failed", "task": "t", "queue": "q", "priority": 0, "attempt": 1, "created_at": "then"}
    client.found = [{"id": 9 - n, **job, "error": "Traceback\n  x\nValueError: no"} for n in range(3)]
    assert run(["list", "--status", "failed", "--limit", "2"]) == 0
    captured = capsys.readouterr()
    assert [line.split()[:3] for line in captured.out.splitlines()[2:]] == [["9", "failed", "t"], ["8", "failed", "t"]]
    assert "ValueError: no" in captured.out
    assert captured.err == "older ones: taskd list --status failed --limit 2 --cursor 8\n"
    assert run(["list", "--limit", "3", "--json"]) == 0
    assert [j["id"] for j in json.loads(capsys.readouterr().out)] == [9, 8, 7]


@pytest.mark.parametrize(("final", "code"), [("completed", 0), ("failed", 1)])
def test_a_watched_job_is_shown_at_each_change_in_a_pipe(
    client: RecordingClient, final: str, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskd.cli.watching.EVERY", 0.0)
    pending = {"id": 17, "status": "pending", "attempt": 0, "attempts": []}
    running = {**pending, "status": "running", "attempt": 1, "worker_id": "w"}
    client.found = [pending, pending, running, {**running, "status": final}]
    assert run(["status", "17", "--watch"]) == code
    assert capsys.readouterr().out.splitlines() == [
        "job 17 pending",
        "job 17 running, attempt 1 on w",
        f"job 17 {final}, attempt 1 on w",
    ]


@pytest.mark.parametrize(("final", "code"), [("completed", 0), ("failed", 1), ("cancelled", 1), ("running", 3)])
def test_the_exit_code_of_a_wait_shows_the_end(
    client: RecordingClient, final: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    client.final = final
    assert run(["submit", "1", "--wait", "1", "--json"]) == code
    captured = capsys.readouterr()
    assert json.loads(captured.out)["status"] == final
    assert captured.err == ""


def test_a_wait_without_an_answer_shows_the_job_as_it_was_submitted(
    client: RecordingClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def timed_out(*_: object) -> None:
        raise TimeoutError("there was no answer in the time given")

    monkeypatch.setattr(client, "wait", timed_out)
    assert run(["submit", "1", "--wait", "1", "--json"]) == 3
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"id": 17, "status": "pending"}
    assert captured.err == "job 17: there was no answer in the time given\n"


@pytest.mark.parametrize(("status", "code"), [("404 Not Found", 0), ("403 Forbidden", 1)])
def test_a_schedule_that_is_already_gone_is_removed(
    status: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "without_schedules.py").write_text("import taskd\napp = taskd.App()\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    there = response("200 OK", [{"name": name, "app": "without_schedules"} for name in ("a", "b")])
    with listening(there, response(status, {"detail": "no"}), response("200 OK", {})) as (url, _):
        assert run(["schedule", "apply", "--app", "without_schedules", "--server", url]) == code
    assert capsys.readouterr().out == ("removed a\nremoved b\n" if code == 0 else "")


def test_each_job_is_cancelled_once_and_shown_in_one_line(
    client: RecordingClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cancel", "17", "17"]) == 0
    assert client.cancels == ["17"]
    assert capsys.readouterr() == ("job 17 cancelled\n", "")


def test_a_job_that_cannot_be_cancelled_keeps_none_of_the_others_back(
    client: RecordingClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cancel", "18", "x", "17", "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out) == [
        {"id": 18, "cancelled": False, "status": "completed", "error": "job 18 is completed: too late"},
        {"id": "x", "cancelled": False, "error": "there is no such job"},
        {"id": 17, "cancelled": True, "status": "cancelled"},
    ]
    assert run(["cancel", "18", "17"]) == 1
    assert capsys.readouterr().out == "job 18 not cancelled: job 18 is completed: too late\njob 17 cancelled\n"


def test_an_interrupted_wait_says_that_the_job_goes_on(
    client: RecordingClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "wait", interrupted)
    assert run(["submit", "1", "--wait", "--json"]) == 130
    assert capsys.readouterr() == ("", "job 17 goes on: taskd status 17\n")


def test_a_bug_is_one_line_too(
    client: RecordingClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(client, "submit", broken)
    assert run(["submit", "1"]) == 1
    assert "ZeroDivisionError: oops" in one_error(capsys)


def test_text_for_people_has_no_colour_codes_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    job = {
        "id": 17,
        "status": "failed",
        "task": "t",
        "payload": "[bold]x[/]",
        "error": "[red]no markup",
        "attempts": [{"attempt": 1, "worker_id": "w", "started_at": "2026-01-31T12:00:00Z", "error": "e"}],
    }
    output.console().print(jobview.job(job))
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "[red]no markup" in text
    assert "[bold]x[/]" in text


def test_a_client_needs_an_address() -> None:
    with pytest.raises(ClientError, match="--server"):
        Client("")
