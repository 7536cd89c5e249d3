"""Tests of a submit whose outcome is unknown, and of one that meets an older job: the message and the exit status."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from taskd import App
from taskd.cli.main import run
from tests.fake_server import JOB, UNSURE, idempotency_key, listening, response

OLD = {
    "id": 79,
    "status": "failed",
    "created_at": "2026-10-01T12:00:00Z",
    "dedupe_key": "k",
    "error": "boom",
    "attempts": [],
}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Current folder without a taskd.toml."""
    monkeypatch.chdir(tmp_path)


def test_an_unknown_outcome_has_a_status_of_its_own_and_says_how_to_repeat(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(*[UNSURE] * 200) as (url, asked):
        assert run(["submit", "1", "--server", url]) == 4
    error = capsys.readouterr().err
    assert error.startswith("error: PostgreSQL is away: it is unknown whether it was stored")
    key = idempotency_key(asked[0]).partition(b": ")[2].decode()
    assert error.rstrip().endswith(f"add --idempotency-key {key} to the same command")
    with listening(JOB) as (url, asked):
        assert run(["submit", "1", "--idempotency-key", key, "--server", url]) == 0
    assert idempotency_key(asked[0]).endswith(f" {key}".encode())


def test_an_unknown_outcome_of_a_batch_has_the_same_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "jobs.ndjson").write_text('{"task": "greet"}\n')
    with listening(*[UNSURE] * 200) as (url, _):
        assert run(["submit", "--bulk", "jobs.ndjson", "--server", url]) == 4
    assert "at least 0 of 1 jobs are stored; the same command goes on from there" in capsys.readouterr().err


@pytest.mark.parametrize("status", ["400 Bad Request", "413 Content Too Large", "422 Unprocessable Entity"])
def test_a_refused_job_exits_as_a_wrong_option_does(status: str) -> None:
    with listening(response(status, {"title": "x", "detail": "no job"})) as (url, _):
        assert run(["submit", '"\\ud800"', "--server", url]) == 2


@pytest.mark.parametrize("wait", [True, False])
def test_a_dedupe_key_of_an_older_job_is_reported_with_that_job(capsys: pytest.CaptureFixture[str], wait: bool) -> None:
    reply = response("200 OK", {**OLD, "duplicate": True})
    with listening(reply, response("200 OK", OLD)) as (url, _):
        arguments = ["submit", "1", "--dedupe-key", "k", "--server", url, *(["--wait", "5"] if wait else [])]
        assert run(arguments) == (1 if wait else 0)
    out, err = capsys.readouterr()
    message = err if wait else out
    assert "no new job" in message
    assert not wait or re.search(r"job 79 of 2026-[0-9: -]+ \(failed\) has this dedupe key", message)
    assert "submitted" not in message


@pytest.mark.parametrize(("options", "duplicate"), [({"dedupe_key": "k"}, True), ({}, False)])
async def test_a_handle_says_whether_its_job_is_an_older_one(options: dict[str, Any], duplicate: bool) -> None:
    with listening(response("200 OK", {**OLD, "duplicate": True})) as (url, _):
        app = App(server=url)

        @app.task
        def it() -> None:
            pass

        handle = await it.options(**options).submit()
        await app.aclose()
    assert (handle.id, handle.duplicate) == (79, duplicate)
