"""Schedulers and workers as real processes on given servers, and clients for a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from taskd import App
from taskd.client import Client
from taskd.dev.servers.ports import free_port
from tests import web
from tests.servers import wait_until

#: Seconds that a process may take until it works, on a busy machine.
STARTING = 90.0
#: Timings of the tests: short, so that failovers are short, and far enough apart for a busy machine.
TIMINGS = {
    "TASKD_ETCD__TTL": "5",
    "TASKD_WORKER__SESSION_TTL": "6",
    "TASKD_WORKER__HEARTBEAT": "1.5",
    "TASKD_WORKER__GRACE": "8",
    "TASKD_WORKER__STOP_GRACE": "1",
    "TASKD_WORKER__CLAIM_IDLE": "4",
}


@dataclass
class Process:
    """taskd process with its URL and its log."""

    popen: subprocess.Popen[bytes]
    url: str
    log: Path

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def terminate(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout=30)

    def suspend(self) -> None:
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.popen.send_signal(signal.SIGCONT)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass
class Fleet:
    """Processes of one test. The methods `start_*` return when the process works."""

    folder: Path
    servers: dict[str, str]
    processes: list[Process] = field(default_factory=list)
    #: Further environment variables of every process.
    more: dict[str, str] = field(default_factory=dict)
    #: A file descriptor for the output of processes that are started later, and a shell's redirection of their streams.
    output: int | None = None
    redirect: str = ""
    _clients: list[Client] = field(default_factory=list)

    @property
    def dsn(self) -> str:
        return self.servers["dsn"]

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TASKD_", "POSTGRES_", "REDIS_"))}
        return (
            inherited
            | TIMINGS
            | {
                "POSTGRES_DSN": self.dsn,
                "REDIS_URL": self.servers["redis_url"],
                "REDIS_STREAM_NAME": self.servers["stream"],
                "ETCD_ENDPOINTS": self.servers["etcd_endpoint"],
                "TASKD_ETCD__PREFIX": self.servers["etcd_prefix"],
                "LOG_FORMAT": "TEXT",
                "TRACE_FILE": str(self.trace_file),
            }
            | self.more
        )

    @property
    def trace_file(self) -> Path:
        return self.folder / "trace"

    @property
    def trace(self) -> list[list[str]]:
        """Lines of the tasks: job, attempt, "start" or "end", boottime seconds."""
        return [line.split() for line in self.trace_file.read_text().splitlines()] if self.trace_file.exists() else []

    def spawn(self, *arguments: str, url: str = "", **environment: str) -> Process:
        log = self.folder / f"{len(self.processes)}-{arguments[0]}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                ["/bin/sh", "-c", f'exec "$@" {self.redirect}', "sh", sys.executable, "-m", "taskd", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output if self.output is None else self.output,
                stderr=subprocess.STDOUT,
                env=self.environment | environment,
                cwd=Path(__file__).parents[2],
            )
        self.processes.append(process := Process(popen, url, log))
        return process

    def taskd(self, scheduler: Process, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a client command as a user does."""
        return subprocess.run(
            [sys.executable, "-m", "taskd", *arguments, "--server", scheduler.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.folder,
        )

    def start_scheduler(self, instance_id: str, port: int = 0) -> Process:
        port = port or free_port()
        url = f"http://127.0.0.1:{port}"
        process = self.spawn("scheduler", "--instance-id", instance_id, "--http-addr", f"127.0.0.1:{port}", url=url)
        wait_until(lambda: _ok(f"{url}/health"), STARTING)
        return process

    def spawn_worker(self, worker_id: str, *options: str, app: str = "tests.e2e.tasks", **environment: str) -> Process:
        """Start a worker without waiting until it works."""
        port = free_port()
        return self.spawn(
            "worker",
            "--id",
            worker_id,
            "--app",
            app,
            "--http-addr",
            f"127.0.0.1:{port}",
            *options,
            url=f"http://127.0.0.1:{port}",
            **environment,
        )

    def start_worker(self, worker_id: str, *options: str, app: str = "tests.e2e.tasks", **environment: str) -> Process:
        process = self.spawn_worker(worker_id, *options, app=app, **environment)
        wait_until(lambda: _ok(f"{process.url}/health") or process.popen.poll() is not None, STARTING)
        # A job may already have killed the worker.
        assert process.popen.poll() in (None, -signal.SIGKILL), process.output[-3000:]
        return process

    def leader(self, schedulers: Sequence[Process], timeout: float = 20.0) -> Process:
        """Return the leading scheduler, as soon as there is exactly one."""

        def leading() -> Process | None:
            leaders = [s for s in schedulers if s.popen.poll() is None and _json(f"{s.url}/leader").get("is_leader")]
            return leaders[0] if len(leaders) == 1 else None

        process = wait_until(leading, timeout)
        assert process is not None
        return process

    def client(self, *schedulers: Process) -> Client:
        self._clients.append(client := Client(",".join(s.url for s in schedulers)))
        return client

    def statuses(self, ids: Iterable[int]) -> dict[str, int]:
        """Return the number of these jobs by status, as PostgreSQL stores them."""
        jobs = list(ids)
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute(
                "SELECT status, count(*) FROM (SELECT id, status FROM taskd.jobs UNION ALL"
                " SELECT id, status FROM taskd.finished_jobs) j WHERE id = ANY(%s) GROUP BY status",
                [jobs],
            ).fetchall()
        return {str(status): int(n) for status, n in rows}

    def wait_completed(self, ids: Sequence[int], timeout: float = 60.0) -> None:
        wait_until(lambda: self.statuses(ids) == {"completed": len(ids)}, timeout)

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()


@contextmanager
def scheduler_of(app: App, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """Start a scheduler that the app finds, and close the app's clients at the end of the block."""
    process = fleet.start_scheduler("s1")
    monkeypatch.setenv("TASKD_SERVER", process.url)
    yield process
    app.close()


def batch(client: Client, task: str, payloads: Iterable[Any], **fields: Any) -> list[int]:
    """Submit one job for each payload and return their ids."""
    return client.submit_batch([{"task": task, "payload": payload, **fields} for payload in payloads])


def _ok(url: str) -> bool:
    try:
        return web.get(url, timeout=3).status_code == 200
    except httpx.HTTPError:
        return False


def _json(url: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = web.get(url, timeout=3).json()
    except httpx.HTTPError:
        return {}
    return document
