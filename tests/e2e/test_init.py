"""Test taskd as process 1 of a container: it reaps orphans, receives signals, and passes on its exit status."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers import wait_until

#: Command that makes a process the first one of a new namespace of process ids.
UNSHARE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def can_unshare() -> bool:
    return (
        shutil.which("unshare") is not None and not subprocess.run([*UNSHARE, "true"], capture_output=True).returncode
    )


pytestmark = pytest.mark.skipif(not can_unshare(), reason="unshare cannot make a namespace of process ids here")

PROGRAM = """
import os, signal, subprocess, sys, time
from taskd.runtime import init
init.split()
{body}
"""
ORPHANS = """
for number in range(20):
    subprocess.run(["sh", "-c", "sleep 0.05 & exit 0"], check=True)
status = subprocess.run(["sh", "-c", "exit 5"]).returncode
deadline = time.monotonic() + 20
zombies = ["all"]
while zombies and time.monotonic() < deadline:
    time.sleep(0.05)
    found = []
    for pid in os.listdir("/proc"):
        if pid.isdecimal() and pid != str(os.getpid()):
            try:
                with open("/proc/" + pid + "/stat") as file:
                    found.append(file.read())
            except OSError:
                pass  # it has been reaped since
    zombies = [stat for stat in found if ") Z " in stat or "sleep" in stat]
print(os.getpid() != 1, status, zombies, flush=True)
sys.exit(3)
"""
WAITS = """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # a handler could run just before a wait, which then never ends
print("ready", flush=True)
print("signal", int(signal.sigwait([signal.SIGTERM])), flush=True)
sys.exit(4)
"""


@contextmanager
def started(body: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program as process 1 of a namespace; kill it at the end of the block, also after a failure."""
    command = [*UNSHARE, sys.executable, "-c", PROGRAM.format(body=body)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_orphans_are_reaped_and_the_statuses_of_own_children_are_not_stolen() -> None:
    with started(ORPHANS) as process:
        output, _ = process.communicate(timeout=60)
    assert output == "True 5 []\n"
    assert process.returncode == 3


@pytest.mark.parametrize(("body", "status"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", 137)])
def test_the_exit_status_is_the_childs(body: str, status: int) -> None:
    with started(body) as process:
        process.communicate(timeout=60)
    assert process.returncode == status


def test_signals_are_passed_on() -> None:
    with started(WAITS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(first_process_below(process.pid), signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert output == f"signal {int(signal.SIGTERM)}\n"
    assert process.returncode == 4


def first_process_below(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {
        "POSTGRES_DSN": "postgresql://user:word@127.0.0.1:1/db",
        "REDIS_URL": "redis://127.0.0.1:1",
        "ETCD_ENDPOINTS": "127.0.0.1:1",
        "LOG_FORMAT": "TEXT",
    }
    command = [*UNSHARE, sys.executable, "-m", "taskd", "worker", "--http-addr", "127.0.0.1:0"]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    yield process
    process.kill()
    process.communicate()


def test_a_worker_that_is_process_1_ends_by_sigterm(worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None
    while "is away" not in (line := worker.stdout.readline()):
        assert line, "it ended by itself"
    first = first_process_below(worker.pid)
    wait_until(lambda: Path(f"/proc/{first}/task/{first}/children").read_text() != "")
    os.kill(first, signal.SIGTERM)
    output, _ = worker.communicate(timeout=60)
    assert "stopping" in output
    assert worker.returncode == 0
