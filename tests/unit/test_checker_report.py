"""Tests of the checker as a program: input, output and exit status."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from taskd.torture.checker.__main__ import main
from taskd.torture.history import History
from tests.unit.histories import START, HistoryBuilder


def save(history: HistoryBuilder, folder: Path) -> Path:
    """Write a history as a run does. The trace counts from a boot at START."""
    built = history.build()
    (folder / "meta.json").write_bytes(
        msgspec.json.encode(msgspec.structs.replace(built.meta, boot_offset=START, scenario="a test", seed=7))
    )
    for name in ("clients", "faults", "events", "terms", "sessions", "jobs", "schedules", "fires"):
        lines = [msgspec.json.encode(line) for line in getattr(built, name)]
        (folder / f"{name}.ndjson").write_bytes(b"".join(line + b"\n" for line in lines))
    signs = [f"{s.job_id} {s.attempt} {s.what} {s.at - START:.6f} {s.pid} {' '.join(s.detail)}" for s in history.trace]
    (folder / "trace").write_text("\n".join(signs) + "\n")
    return folder


def test_a_clean_run_exits_with_0_and_says_what_was_not_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = HistoryBuilder()
    history.whole(0.0, 1)
    assert main([str(save(history, tmp_path))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a test, seed 7: 1 jobs, 4 events"
    assert "I1: holds; looked at 1" in lines
    assert "I11: looked at 0, so this shows nothing" in lines
    assert "I16: looked at 0, so this shows nothing" in lines
    assert len(lines) == 20


def test_a_broken_run_exits_with_1_and_shows_the_events_of_jobs_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = HistoryBuilder()
    history.whole(0.0, 1)
    for job in range(2, 10):
        history.whole(0.0, job)
        history.events[-1] = msgspec.structs.replace(history.events[-1], by="taskd:settle:w2")
    assert main([str(save(history, tmp_path))]) == 1
    out = capsys.readouterr().out
    assert "I5: BROKEN 8 times; looked at 9" in out
    reports = [part.splitlines() for part in out.split("\n\n")[1:]]
    assert len(reports) == 5
    assert reports[0][0] == "I5: job 2: attempt 1 of w1 was closed by taskd:settle:w2"
    assert [line.split()[1:3] for line in reports[0][1:]] == [
        ["client", "invoke"],
        ["event", "1."],
        ["client", "ok"],
        ["event", "2."],
        ["event", "3."],
        ["trace", "attempt"],
        ["trace", "attempt"],
        ["event", "4."],
    ]


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = HistoryBuilder()
    history.whole(0.0, 1)
    history.sign(0.4, 1, 1, "lock", "till", "3")
    history.schedule(until=1.4)
    history.fired(1.0, 2)
    read = History.load(save(history, tmp_path))
    assert (read.events, read.jobs, read.clients) == (history.events, history.rows(), history.clients)
    assert (read.schedules, read.fires) == (history.schedules, history.fires)
    assert [(s.what, s.detail) for s in read.trace][:3] == [("start", ()), ("end", ()), ("lock", ("till", "3"))]
    assert [s.at for s in read.trace] == pytest.approx([s.at for s in history.trace])


def test_a_line_of_the_trace_that_was_cut_off_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = HistoryBuilder()
    history.whole(0.0, 1)
    folder = save(history, tmp_path)
    with (folder / "trace").open("a") as trace:
        trace.write("1 1 ali")
    assert main([str(folder)]) == 0
    assert "1 torn lines" in capsys.readouterr().out


def test_without_a_history_there_is_nothing_to_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert main([]) == 2
    folder = save(HistoryBuilder(), tmp_path)
    (folder / "jobs.ndjson").write_text("{}\n")
    assert main([str(folder)]) == 2
    assert "jobs.ndjson:1:" in capsys.readouterr().err
