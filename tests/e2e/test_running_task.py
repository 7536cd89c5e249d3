"""What a running task can do, on a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet
from tests.e2e.tasks import app, count_up, patient
from tests.servers import wait_until


def test_progress_is_shown_checkpoints_survive_a_crash_and_snoozes_cost_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scheduler = fleet.start_scheduler("s1")
    monkeypatch.setenv("TASKD_SERVER", scheduler.url)
    worker = fleet.start_worker("w1")
    file = tmp_path / "there"
    waiting = patient.options(max_retries=0).submit_sync(str(file))
    crashing = count_up.options(retry_backoff={"initial": 0.05, "jitter": False}).submit_sync(10)
    assert crashing.result(timeout=20) == [0, 5]
    job = crashing.job()
    assert [one["outcome"] for one in job["attempts"]] == ["crashed", "completed"]
    assert job["progress"] == {"attempt": 2, "fraction": 1.0, "message": "at 10"}

    wait_until(lambda: waiting.job()["attempts"][-1:] != [] and waiting.job()["attempts"][0].get("snoozes", 0) > 2)
    shown = fleet.taskd(scheduler, "status", str(waiting.id)).stdout
    assert "looking" in shown
    assert "snoozed" in shown
    file.touch()
    attempts = waiting.result(timeout=20)
    snoozed, completed = waiting.job()["attempts"]
    assert (snoozed["outcome"], snoozed["snoozes"]) == ("snoozed", attempts - 1)
    assert (completed["outcome"], completed["attempt"]) == ("completed", attempts)
    assert "outcome=snoozed" in worker.output
    app.close()
