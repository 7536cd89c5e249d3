"""Tests of the command line's views: rows of one line, times, and encodings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from taskd.cli import output, tables
from tests.unit.hostile import OWN, Scheduler, Terminal, hostile_scheduler, look, terminal


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Scheduler]:
    """The hostile scheduler."""
    with hostile_scheduler() as server:
        yield server


LONG = "ConnectionError: the bank does not answer, " * 60
JOB = {
    "id": 123456,
    "status": "completed",
    "task": "thumbnails.resize",
    "queue": "images-of-the-shop",
    "priority": 10,
    "attempt": 3,
    "created_at": "2026-11-23T13:28:54.823243Z",
    "error": f"Traceback\n  File\n{LONG}",
}
SCHEDULE = {
    "name": "nightly-report",
    "cron": "*/5 3 * * mon-fri",
    "tz": "America/Argentina/Buenos_Aires",
    "next_at": "2026-11-23T13:30:00Z",
    "missed": "once",
    "overlap": "allow",
    "app": "shop.tasks",
    "job": {"task": "shop.report", "queue": "default"},
}


def _lines(view: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> list[str]:
    with terminal(monkeypatch) as (out, _):
        monkeypatch.setenv("COLUMNS", str(columns))
        output.show(view())
    return OWN.sub("", out.getvalue()).splitlines()


@pytest.mark.parametrize("columns", [40, 80, 100, 250])
def test_a_job_is_one_line_that_fits(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _lines(lambda: tables.jobs([JOB, JOB]), monkeypatch, columns)
    assert len(lines) == 4
    assert all(len(line) <= columns for line in lines)
    assert "123456" in lines[2]
    assert lines[2].endswith("…")
    if columns >= 80:
        assert re.search(r"2026-11-23 \d\d:28:54", lines[2])
        assert "ConnectionError" in lines[2]
    if columns == 250:
        assert "images-of-the-shop" in lines[2]


def test_a_schedule_is_one_line_of_whole_words(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _lines(lambda: tables.schedules([SCHEDULE]), monkeypatch)
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert lines[2].startswith("nightly-report  */5 3 * * mon…  America/")
    assert re.search(r"2026-11-23 \d\d:30:00", lines[2])


def test_a_pipe_gets_every_column_and_no_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output.show(tables.jobs([JOB]))
    output.show(tables.schedules([SCHEDULE]))
    text = capsys.readouterr().out
    assert LONG.strip() in text
    assert "America/Argentina/Buenos_Aires" in text
    assert "shop.tasks" in text
    assert "…" not in text


def test_json_in_another_encoding_has_the_same_value(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler.text, scheduler.refuses = "é ž … 😀 ─", False
    monkeypatch.setattr(Terminal, "encoding", "latin-1")
    out, _ = look(scheduler, ["status", "1", "--json"], monkeypatch)
    assert out.isascii()
    assert json.loads(out) == scheduler.document("GET", "/jobs/1")


def test_a_table_in_another_encoding_keeps_its_width(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terminal, "encoding", "ascii")
    lines = _lines(lambda: tables.jobs([JOB]), monkeypatch)
    assert all(line.isascii() and len(line) <= 80 for line in lines)
    assert lines[2].endswith("~")


def test_times_are_local_or_utc(monkeypatch: pytest.MonkeyPatch, scheduler: Scheduler) -> None:
    monkeypatch.setattr(Scheduler, "document", lambda *_: [JOB])
    scheduler.refuses = False
    local = datetime.fromisoformat(JOB["created_at"]).astimezone()  # type: ignore[arg-type]
    assert f"{local:%Y-%m-%d %H:%M:%S} " in look(scheduler, ["list"], monkeypatch)[0]
    assert "2026-11-23 13:28:54Z" in look(scheduler, ["list", "--utc"], monkeypatch)[0]
    assert "13:28:54Z" not in look(scheduler, ["list"], monkeypatch)[0], (
        "the option of one command is not the next one's"
    )
    assert local.utcoffset() is not None
    assert local.astimezone(UTC).hour == 13
