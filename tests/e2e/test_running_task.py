"""Test the means of a running task, on a real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskd import JobFailed
from tests.e2e.fleet import Fleet, Process, scheduler_of
from tests.e2e.tasks import app, count_up, exclusive, exclusive_thread, nap, parent, patient
from tests.servers import wait_until


@pytest.fixture
def scheduler(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """Return a scheduler that the tasks' App finds."""
    with scheduler_of(app, fleet, monkeypatch) as process:
        yield process


def test_progress_is_shown_checkpoints_survive_a_crash_snoozes_are_free_and_children_know_their_parent(
    fleet: Fleet, scheduler: Process, tmp_path: Path
) -> None:
    worker = fleet.start_worker("w1", TASKD_SERVER=scheduler.url)
    file = tmp_path / "there"
    waiting = patient.options(max_retries=0).submit_sync(str(file))
    crashing = count_up.options(retry_backoff={"initial": 0.05, "jitter": False}).submit_sync(10)
    assert crashing.result(timeout=20) == [0, 5]
    job = crashing.job()
    assert [item["outcome"] for item in job["attempts"]] == ["crashed", "completed"]
    assert job["progress"] == {"attempt": 2, "fraction": 1.0, "message": "at 10"}

    wait_until(lambda: waiting.job()["attempts"][-1:] != [] and waiting.job()["attempts"][0].get("snoozes", 0) > 2)
    shown = fleet.taskd(scheduler, "status", str(waiting.id)).stdout
    assert "looking" in shown
    assert "snoozed (" in shown
    children = parent.submit_sync()
    ids = children.result(timeout=20)
    child_jobs = [nap.handle_sync(item).job() for item in ids]
    assert [(item["parent_id"], item["task"], item["priority"]) for item in child_jobs] == [
        (children.id, "nap", 0),
        (children.id, "block", 3),
    ]
    file.touch()
    attempts = waiting.result(timeout=20)
    snoozed, completed = waiting.job()["attempts"]
    assert (snoozed["outcome"], snoozed["snoozes"]) == ("snoozed", attempts - 1)
    assert (completed["outcome"], completed["attempt"]) == ("completed", attempts)
    assert "outcome=snoozed" in worker.output


def test_a_lock_has_one_holder_and_its_end_ends_the_hold(fleet: Fleet, scheduler: Process) -> None:
    worker = fleet.start_worker("w1", "--processes", "2")
    handles = [exclusive.submit_sync("a", 0.05) for _ in range(3)] + [
        exclusive_thread.submit_sync("a", wait=20) for _ in range(3)
    ]
    fences = [handle.result(timeout=30) for handle in handles]
    assert len(set(fences)) == 6
    whats = [what for *_, what, _ in sorted(fleet.trace, key=lambda line: float(line[-1]))]
    assert whats == ["start", "end"] * 6

    napping = exclusive.submit_sync("b", 600)
    wait_until(lambda: any(int(line[0]) == napping.id for line in fleet.trace))
    late = exclusive_thread.options(max_retries=0).submit_sync("b", wait=0.2)
    with pytest.raises(JobFailed, match=r"TimeoutError: the lock 'b' was not free within 0\.2 s"):
        late.result(timeout=20)
    assert napping.cancel()
    assert exclusive_thread.submit_sync("b", wait=20).result(timeout=20) > max(fences)
    assert "lock was lost" not in worker.output
