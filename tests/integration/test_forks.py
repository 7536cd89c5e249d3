"""Test tasks that fork: the child is a program of the task, and only the executor's process ends the attempt."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskd.domain.outcome import Completed, Crashed
from tests.integration.executor_bench import Bench, redirected, running, text
from tests.servers import wait_until, wait_until_async

APP = "tests.integration.forking_tasks"
#: Actions of a child's code, and the exit status that its parent sees.
WAYS = {
    "return": 0,
    "exit": 3,
    "exit with a huge number": 255,
    "exit with text": 1,
    "raise": 1,
    "kill": -15,
    "interrupt": 1,
    "own loop": 0,
    "nested": 7,
}


@pytest.fixture
async def bench(stderr: Path) -> AsyncIterator[Bench]:
    async with running(Bench(app=APP, max_log_bytes=100_000), stderr) as bench:
        yield bench
    assert all(len(outcomes) == 1 for outcomes in bench.ends.values())


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("task", ["forks", "forks_async", "forks_in_a_task_of_its_own", "forks_in_a_thread"])
async def test_a_child_ends_with_its_code_and_its_parent_goes_on(bench: Bench, task: str, how: str) -> None:
    assert await bench.result(task, how=how) == WAYS[how]
    assert bench.executors.restarts == 0


@pytest.mark.parametrize("task", ["forks_async", "forks_in_a_task_of_its_own"])
async def test_a_child_that_awaits_on_its_parents_loop_ends_with_an_error(
    bench: Bench, task: str, stderr: Path
) -> None:
    neighbour = bench.order("forks_async", '{"how": "return"}')
    await bench.begin(neighbour)
    assert await bench.result(task, how="await") == 1
    assert "a fork of an async task cannot await" in text(stderr)
    assert isinstance((await bench.ended(neighbour))[0], Completed)


async def test_a_signal_that_comes_at_once_ends_a_child(bench: Bench) -> None:
    assert await bench.result("ends_children_at_once", count=200) == [-15]


async def test_what_is_around_a_task_is_its_parents_to_close(bench: Bench, stderr: Path) -> None:
    assert await bench.result("forks_with_a_session", how="exit") == [3]
    assert await bench.result("tells_what_was_left") == ["open", "closed"]
    assert text(stderr).count("session closed") == 1


async def test_a_child_process_cannot_use_the_attempts_context(bench: Bench) -> None:
    assert await bench.result("forks_and_speaks") == 9
    assert bench.notes == []


async def test_what_is_printed_before_a_fork_and_in_it_is_written_once(bench: Bench, stderr: Path) -> None:
    assert await bench.result("forks_and_prints") == 0
    assert "half a line of the child\n" in text(stderr)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_multiprocessing_works_as_in_any_program(bench: Bench, method: str) -> None:
    for task in ("terminates_a_pool", "leaves_a_pool", "maps_in_processes"):
        assert await bench.result(task, method=method) == [0, 1, 4]
    assert await bench.result("starts_a_process", method=method) == 5
    assert bench.executors.restarts == 0


async def test_a_terminal_and_a_preexec_function_work(bench: Bench) -> None:
    assert await bench.result("forks_on_a_terminal") == ["hi", 0]
    assert await bench.result("has_a_preexec") == "hi\n"


async def test_a_daemon_of_a_task_ends_with_its_own_code(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "daemon"
    assert await bench.result("daemonizes", path=str(path)) == 0
    await wait_until_async(lambda: path.exists() and path.read_text() == "daemon")


async def test_a_fork_holds_up_nothing_when_its_executor_ends(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "child"
    outcome = await bench.run("ends_its_executor_leaving_a_fork", json.dumps({"path": str(path)}))
    assert isinstance(outcome, Crashed)
    child = int(path.read_text())
    wait_until(lambda: _ended(child))


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@pytest.mark.parametrize("task", ["forks", "forks_async"])
@pytest.mark.parametrize("how", ["return", "exit", "raise", "nested"])
def test_taskd_run_prints_one_result_of_a_task_that_forks(task: str, how: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "taskd", "run", task, json.dumps({"how": how}), "--app", APP],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (ran.returncode, ran.stdout) == (0, f"{WAYS[how]}\n"), ran.stderr


IN_TRANSACTION = """
import asyncio, os, sys
from taskd.runtime import forks
from taskd.store.task_connections import TaskConnectionPool

forks.watch()
pool = TaskConnectionPool(sys.argv[1], size=2, name="test")


def fork(connection):
    child = os.fork()
    if child == 0:
        try:
            connection.pgconn.exec_(b"SELECT 1")
            connection.pgconn.finish()
        finally:
            forks.leave()
    os.waitpid(child, 0)


async def main():
    kept = await pool._take()
    fork(kept)
    return await (await kept.execute("SELECT 'async'")).fetchone()


kept = pool._take_sync()
fork(kept)
print(kept.execute("SELECT 'plain'").fetchone(), asyncio.run(main()))
"""


def test_a_fork_cannot_reach_the_connections_of_its_parents_transactions(postgres_dsn: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IN_TRANSACTION, postgres_dsn], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stdout == "('plain',) ('async',)\n", ran.stderr


async def test_a_fork_of_an_app_that_starts_is_not_an_executor(stderr: Path) -> None:
    other_bench = Bench(app="tests.integration.forking_app")
    with redirected(stderr):
        await other_bench.executors.start()
    assert await other_bench.result("tells") == [0, 6, 0]
    await other_bench.executors.close()
    assert text(stderr).count("the last hook runs") == 1
