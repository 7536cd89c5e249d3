"""Test that work continues without a log: with standard streams that are broken, full, stalled or closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests import web
from tests.chaos import disk
from tests.chaos.disk import SmallDisk
from tests.e2e.fleet import Fleet, Process, batch
from tests.servers import wait_until

APP = "tests.e2e.printing_tasks"


def lost(process: Process) -> float:
    """Return the number of log lines that the process reports as lost."""
    page = web.get(f"{process.url}/metrics", headers={"Accept": "text/plain"}).text
    (line,) = (line for line in page.splitlines() if line.startswith("taskd_log_lines_lost_total "))
    return float(line.split()[1])


@contextmanager
def writing_to(fleet: Fleet, way: str) -> Iterator[None]:
    """Give processes that are started in the block a stdout and a stderr of this kind."""
    reading_end, writing_end = os.pipe()
    with ExitStack() as stack:
        stack.callback(os.close, writing_end)
        if way == "full":
            fleet.redirect = ">/dev/full 2>&1"
        elif way == "closed":
            fleet.redirect = "<&- >&- 2>&-"
        else:
            fleet.output = writing_end
        if way.startswith("stalled"):
            stack.callback(os.close, reading_end)
            fill(writing_end)
            os.set_blocking(writing_end, not way.endswith("O_NONBLOCK"))
        else:
            os.close(reading_end)
        yield


def fill(pipe: int) -> None:
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, b"." * 4096)


@pytest.mark.parametrize("way", ["gone", "full", "closed", "stalled", "stalled, O_NONBLOCK"])
def test_a_cluster_without_a_log_works_and_ends_in_good_order(fleet: Fleet, way: str) -> None:
    with writing_to(fleet, way):
        scheduler = fleet.start_scheduler("s1")
        worker = fleet.start_worker("w1", "--processes", "1", app=APP)
        with fleet.client(scheduler) as client:
            ids = batch(client, "shout", [{"text": f"hello {n}"} for n in range(5)])
            ids += batch(client, "pour", [{"lines": 20_000}])
            fleet.wait_completed(ids)
            lines = web.get(f"{scheduler.url}/jobs/{ids[0]}/logs").json()["lines"]
            assert [line["text"] for line in lines if line["source"] == "stdout"] == ["hello 0"] * 2
            changed = web.request("PUT", f"{scheduler.url}/config/log.level", json={"value": "DEBUG"})
            assert changed.status_code == 200, changed.text
            assert web.get(f"{scheduler.url}/leader").json()["is_leader"]
        if way in ("gone", "full"):
            assert lost(scheduler) > 0
            assert lost(worker) > 20_000, "the executor's are counted too"
        assert worker.terminate() == 0
        assert scheduler.terminate() == 0


@pytest.mark.skipif(disk.available() is not None, reason=str(disk.available()))
def test_lines_come_back_when_a_full_disk_has_room_again(fleet: Fleet, private_folder: Path) -> None:
    with SmallDisk(private_folder / "disk", 1024 * 1024) as small:
        log = small.folder / "log"
        fleet.redirect = f">>{log} 2>&1"
        scheduler = fleet.start_scheduler("s1")
        worker = fleet.start_worker("w1", "--processes", "1", app=APP)
        with fleet.client(scheduler) as client:
            small.fill()
            fleet.wait_completed(batch(client, "shout", [{"text": "while it is full"}] * 100))
            assert lost(worker) > 0
            small.free()
            fleet.wait_completed(batch(client, "shout", [{"text": "with room again"}]))
        wait_until(lambda: "with room again" in log.read_text(errors="replace"), 20)
        assert "lines of the log were lost before this one" in log.read_text(errors="replace")
        assert worker.terminate() == 0
        assert scheduler.terminate() == 0


def test_a_cluster_on_one_machine_outlives_the_reader_of_its_lines(tmp_path: Path) -> None:
    """Test the case of `taskd dev | head -1`."""
    from taskd.dev.servers.ports import free_port  # noqa: PLC0415  only here

    port = free_port()
    with ExitStack() as stack:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskd", "dev", "--port", str(port), "--data", str(tmp_path / "data")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
        stack.callback(process.wait, 60)
        stack.callback(process.send_signal, signal.SIGINT)
        assert process.stdout is not None
        process.stdout.close()

        def ended() -> bool:
            assert process.poll() is None
            job = subprocess.run(
                [sys.executable, "-m", "taskd", "submit", "--task", "echo", "{}", "--wait", "20"],
                env=os.environ | {"TASKD_SERVER": f"http://127.0.0.1:{port}"},
                capture_output=True,
            )
            return job.returncode == 0

        wait_until(ended, 90)
    assert process.returncode == 0
