"""Test the examples on one cluster."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskd.dev.process import executors
from taskd.dev.sandbox import Sandbox
from taskd.dev.servers.ports import free_port
from tests.servers import wait_until

ROOT = Path(__file__).parents[2]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Return one sandbox for all examples."""
    with Sandbox() as shared:
        yield shared


@pytest.fixture
def cluster(sandbox: Sandbox) -> Iterator[Sandbox]:
    """Return the sandbox, and empty it after the test."""
    yield sandbox
    sandbox.empty()


@pytest.fixture
def start(cluster: Sandbox) -> Iterator[Start]:
    """Return a function that starts a program of an example's folder, as its README does."""
    running: list[subprocess.Popen[str]] = []

    def started(example: str, program: str, *arguments: object) -> subprocess.Popen[str]:
        environment = os.environ | {"TASKD_SERVER": cluster.url, "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, program, *map(str, arguments)]
        running.append(
            subprocess.Popen(
                command, cwd=ROOT / "examples" / example, env=environment, stdout=subprocess.PIPE, text=True
            )
        )
        return running[-1]

    yield started
    for process in running:
        process.kill()
        process.communicate()


def output_of(process: subprocess.Popen[str]) -> list[str]:
    """Return the output of a program. Raises AssertionError unless it exits with 0."""
    text, _ = process.communicate(timeout=180)
    assert process.returncode == 0
    return text.splitlines()


def test_thumbnails(cluster: Sandbox, start: Start, tmp_path: Path) -> None:
    cluster.worker("examples.thumbnails.app")
    lines = output_of(start("thumbnails", "app.py", tmp_path, 5))
    assert lines[:2] == ["image-000.png: 100 x 50", "image-001.png: 100 x 52"]
    assert lines[-1] == f"no-image.png: {tmp_path}/no-image.png is no image"
    assert sorted(file.name for file in (tmp_path / "small").iterdir()) == [f"image-{n:03}.png" for n in range(5)]
    assert [job["attempt"] for job in cluster.jobs(status="failed")] == [1]


def test_the_crawler_asks_each_host_once_at_a_time(cluster: Sandbox, start: Start) -> None:
    cluster.worker("examples.crawler.app")
    port = free_port()
    start("crawler", "site.py", port)
    wait_until(lambda: reachable(port))
    lines = output_of(start("crawler", "app.py", f"http://localhost:{port}/0"))
    pages = [line for line in lines if not line.startswith("there is no")]
    assert sorted(int(line.rpartition(" ")[2]) for line in pages) == list(range(15))
    assert sorted(set(lines) - set(pages)) == [f"there is no http://127.0.0.1:{port}/99"]
    with urllib.request.urlopen(f"http://localhost:{port}/most") as response:
        assert json.load(response) == {f"localhost:{port}": 1, f"127.0.0.1:{port}": 1}


def reachable(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/most"):
            return True
    except OSError:
        return False


def test_the_load_goes_on_where_it_was_killed_and_is_exact(cluster: Sandbox, start: Start, tmp_path: Path) -> None:
    cluster.worker("examples.etl.app")
    program = start("etl", "app.py", tmp_path, 20_000, 0.1)
    assert program.stdout is not None
    job = int(program.stdout.readline().split()[1])
    wait_until(lambda: (cluster.client.job(job).get("progress") or {}).get("fraction", 0) > 0.2, 60)
    for worker in cluster.worker_pids:
        for pid in executors(worker):
            os.kill(pid, signal.SIGKILL)
    (line,) = output_of(program)
    match = re.fullmatch(r"20000 rows in (\d+) attempts, the last one began at row (\d+); the sums are exact", line)
    assert match is not None, line
    attempts = [(attempt["outcome"], attempt.get("error")) for attempt in cluster.client.job(job)["attempts"]]
    assert [outcome for outcome, _ in attempts] == ["crashed", "completed"], attempts
    assert 4000 <= int(match[2]) < 20_000
