"""Test signals to a process that is still starting: it ends at once, and so do its executors."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet
from tests.servers import wait_until

#: Seconds in which a process without unfinished work ends, on a busy machine.
AT_ONCE = 5.0
SLOW = """
import os, pathlib, time
pathlib.Path(os.environ["IMPORTING"]).write_text(str(os.getpid()))
time.sleep(600)
"""
QUICK = """
import taskd
app = taskd.App()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def make(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskd", *arguments],
            env=os.environ | {"IMPORTING": str(tmp_path / "importing"), "LOG_FORMAT": "TEXT"} | environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield make
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def silent() -> Iterator[dict[str, str]]:
    """Return addresses of servers that accept connections and never send anything, as behind a firewall."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    postgres, redis, etcd = (server.getsockname()[1] for server in sockets)
    yield {
        "POSTGRES_DSN": f"postgresql://user:word@127.0.0.1:{postgres}/db",
        "REDIS_URL": f"redis://127.0.0.1:{redis}",
        "ETCD_ENDPOINTS": f"127.0.0.1:{etcd}",
    }
    for server in sockets:
        server.close()


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send the signal; return the exit status and the output. Raises AssertionError after AT_ONCE seconds."""
    began = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < AT_ONCE, output
    return process.returncode, output


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


COMMANDS = {
    "worker": (["worker", "--app", "slow", "--http-addr", "127.0.0.1:0"], {signal.SIGTERM: 0, signal.SIGINT: 0}),
    "run": (["run", "task", "--app", "slow"], {signal.SIGTERM: -signal.SIGTERM, signal.SIGINT: 130}),
    "apply": (["schedule", "apply", "--app", "slow"], {signal.SIGTERM: -signal.SIGTERM, signal.SIGINT: 130}),
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_while_the_app_is_imported_is_heard_at_once(
    start: Callable[..., subprocess.Popen[str]],
    silent: dict[str, str],
    tmp_path: Path,
    command: str,
    number: signal.Signals,
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    arguments, statuses = COMMANDS[command]
    process = start(*arguments, **silent)
    importing = tmp_path / "importing"
    wait_until(lambda: importing.exists() and importing.read_text() != "", 60)
    status, output = end(process, number)
    assert status == statuses[number], output
    assert "error:" not in output, output
    wait_until(lambda: not runs(int(importing.read_text())))


@pytest.mark.parametrize("role", ["worker", "scheduler"])
def test_a_signal_while_servers_do_not_answer_is_heard_at_once(
    start: Callable[..., subprocess.Popen[str]], silent: dict[str, str], role: str
) -> None:
    process = start(role, "--http-addr", "127.0.0.1:0", **silent)
    assert process.stdout is not None
    while "is away" not in (line := process.stdout.readline()):
        assert line, "it ended by itself"
    status, output = end(process, signal.SIGTERM)
    assert status == 0, output


def test_a_signal_while_changed_code_is_imported_is_heard_at_once(fleet: Fleet, tmp_path: Path) -> None:
    module, importing = tmp_path / "reloaded_app.py", tmp_path / "importing"
    module.write_text(QUICK)
    environment = {"PYTHONPATH": str(tmp_path), "IMPORTING": str(importing)}
    worker = fleet.spawn_worker("w1", "--reload", app="reloaded_app", **environment)
    wait_until(lambda: "working" in worker.output, 60)
    module.write_text(SLOW)
    wait_until(lambda: importing.exists() and importing.read_text() != "", 60)
    began = time.monotonic()
    assert worker.terminate() == 0
    assert time.monotonic() - began < AT_ONCE, worker.output
    wait_until(lambda: not runs(int(importing.read_text())))
