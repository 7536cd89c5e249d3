"""Test what attempts leave behind in their executor: other attempts do not notice, and processes of a stopped one end."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskd.domain.job import AttemptId
from taskd.domain.outcome import Failed, TimedOut
from tests.integration.executor_bench import Bench, running, text
from tests.servers import wait_until_async

APP = "tests.integration.leftover_tasks"


@pytest.fixture
async def bench(stderr: Path) -> AsyncIterator[Bench]:
    async with running(Bench(app=APP, slots=40, stop_grace=2.0), stderr) as bench:
        yield bench
    assert all(len(outcomes) == 1 for outcomes in bench.ends.values())


async def test_threads_of_ended_attempts_take_none_from_innocent_ones(bench: Bench, stderr: Path) -> None:
    stuck = [bench.order("occupies_a_thread", timeout=0.5) for _ in range(36)]
    await bench.begin(*stuck)
    assert all(isinstance(outcome, TimedOut) for outcome in await bench.ended(*stuck))
    assert await bench.result("uses_a_thread", number=7) == 50
    assert bench.executors.restarts == 0
    assert "functions that it had given to threads: they run on" in text(stderr)


async def test_an_executor_whose_threads_are_occupied_by_ended_attempts_is_replaced_without_a_loss(
    bench: Bench,
) -> None:
    before = await bench.result("tells_its_executor")
    patient = bench.order("occupies_a_thread")
    stuck = [bench.order("occupies_many_threads", '{"count": 5}', timeout=0.5) for _ in range(12)]
    await bench.begin(patient, *stuck)
    await bench.ended(*stuck)
    await wait_until_async(lambda: len(bench.executors._supervisor.live) == 2, 60)
    assert bench.executors.free == 39
    assert await bench.result("tells_its_executor") != before
    bench.executors.stop(AttemptId(patient.job_id, 7), TimedOut(1.0))
    await bench.ended(patient)
    await wait_until_async(lambda: len(bench.executors._supervisor.live) == 1)
    assert bench.executors.restarts == 0
    assert bench.executors.free == 40


async def test_one_attempt_has_a_share_of_threads_like_pythons_own(bench: Bench) -> None:
    assert await bench.result("uses_more_threads_than_its_share") == min(32, (os.cpu_count() or 1) + 4)


async def test_an_executor_that_the_app_sets_is_used(bench: Bench) -> None:
    assert (await bench.result("sets_a_default_executor")).startswith("own")


THREADS = ["thread of its own", "pool of its own"]
ASYNC = [
    *("exec", "shell", "stubborn", "session", "thread", "default executor"),
    *("Popen", "spawn", "fork", "multiprocessing fork", *THREADS),
]
PLAIN = ["Popen", "spawn", "fork", "multiprocessing fork", "multiprocessing spawn", *THREADS]

WAITING = ["session", "pipe", "stubborn", "spawn"]


@pytest.mark.parametrize(
    ("task", "how"),
    [
        *(("starts_a_program", how) for how in ASYNC),
        *(("starts_a_program_in_a_thread", how) for how in PLAIN),
        *(("waits_for_a_program", how) for how in WAITING),
    ],
)
async def test_processes_of_an_attempt_that_ran_too_long_end_before_it_does(
    bench: Bench, tmp_path: Path, task: str, how: str
) -> None:
    path = tmp_path / "pids"
    order = bench.order(task, json.dumps({"path": str(path), "how": how}))
    await bench.begin(order)
    await wait_until_async(lambda: path.exists() and path.read_text())
    (pid,) = map(int, path.read_text().split())
    family = [pid, *_children(pid)]
    assert all(_runs(pid) for pid in family)
    bench.executors.stop(order.attempt_id, TimedOut(1.0))
    await bench.ended(order)
    assert not _runs(pid)
    await wait_until_async(lambda: not any(_runs(pid) for pid in family))
    assert bench.executors.restarts == 0


async def test_what_an_attempt_that_ends_by_itself_leaves_behind_lives_until_its_executor_ends(
    bench: Bench, tmp_path: Path
) -> None:
    path = tmp_path / "pids"
    await bench.result("starts_a_program_and_ends", path=str(path))
    (pid,) = map(int, path.read_text().split())
    assert _runs(pid)
    bench.executors.kill()
    await wait_until_async(lambda: not _runs(pid))


async def test_helpers_of_multiprocessing_outlive_the_attempt_that_started_them(bench: Bench, tmp_path: Path) -> None:
    order = bench.order(
        "starts_a_program_in_a_thread", json.dumps({"path": str(tmp_path / "a"), "how": "multiprocessing spawn"})
    )
    await bench.begin(order)
    await wait_until_async((tmp_path / "a").exists)
    bench.executors.stop(order.attempt_id, TimedOut(1.0))
    await bench.ended(order)
    assert await bench.result("uses_processes") == 5


async def test_an_executor_without_descriptors_is_replaced(bench: Bench, stderr: Path) -> None:
    before = await bench.result("tells_its_executor")
    await bench.result("leaks_descriptors")
    outcome = await bench.run("opens_a_file", "{}")
    assert isinstance(outcome, Failed)
    assert "Too many open files" in outcome.error
    await wait_until_async(lambda: [child.pid for child in bench.executors._supervisor.live] not in ([before], []))
    await wait_until_async(lambda: len(bench.executors._supervisor.live) == 1)
    assert await bench.result("opens_a_file") > 2
    assert await bench.result("tells_its_executor") != before


async def test_the_current_folder_is_changed_back(bench: Bench, tmp_path: Path) -> None:
    before = await bench.result("tells_its_folder")
    await bench.result("changes_its_folder", path=str(tmp_path))
    assert await bench.result("tells_its_folder") == before


async def test_a_folder_that_is_gone_costs_no_attempt_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    for folder in (home, other):
        folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.chdir(home)
    other_bench = Bench(app=APP)
    await other_bench.executors.start()
    await other_bench.result("removes_its_folder", path=str(other))
    assert await other_bench.result("uses_a_thread", number=7) == 50
    await other_bench.executors.close()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
