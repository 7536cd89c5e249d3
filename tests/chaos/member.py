"""One scheduler or worker of a scenario, as a process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from taskd.dev import process
from taskd.dev.child_process import ChildProcess, Program
from tests import web
from tests.chaos.shape import SHARD

ROOT = Path(__file__).parents[2]


class Member:
    """Process with an HTTP port. It dies with this process at the latest."""

    def __init__(self, name: str, role: str, port: int, log: Path) -> None:
        self.name = name
        self.role = role
        self.port = port
        self.log = log
        self.pid = 0
        self._child = ChildProcess(name, log)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start `taskd` with these arguments; with TASKD_MUTANT set, one protection of it is off."""
        module = "tests.chaos.mutated" if "TASKD_MUTANT" in environment else "taskd"
        self._child.spawn(
            Program(
                argv=[sys.executable, "-m", module, *arguments],
                environment=environment,
                folder=ROOT,
                death_signal=signal.SIGKILL,
            )
        )
        self.pid = self._child.pid or 0

    @property
    def url(self) -> str:
        """Base URL, http://HOST:PORT."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        """True while the process runs or is stopped."""
        return self._child.pid is not None

    @property
    def status(self) -> int | None:
        """Exit status; None before the end."""
        return self._child.exit_status

    @property
    def ready(self) -> bool:
        """True if /health answers 200: the worker has its session, the scheduler its PostgreSQL."""
        try:
            return web.get(f"{self.url}/health", timeout=3).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def leads(self) -> bool:
        """True if this scheduler reports that it leads the queue `default`."""
        return self.leads_shard(SHARD)

    def leads_shard(self, shard: int) -> bool:
        """Return True if this scheduler reports that it leads this shard."""
        document = self.json("/leader")
        leader = document["shards"][shard] if "shards" in document else document
        return bool(document.get("is_leader")) and leader["current_leader"] == self.name

    def json(self, path: str) -> dict[str, Any]:
        """Return the JSON response to a GET of `path`; empty if there is none."""
        try:
            document: dict[str, Any] = web.get(f"{self.url}{path}", timeout=3).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return document

    @property
    def executors(self) -> list[int]:
        """Pids of a worker's executors, without its guard and without processes that tasks have started."""
        return process.executors(self.pid)

    @property
    def output(self) -> str:
        """Content of the log file."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill(self) -> None:
        """Send SIGKILL, also to a stopped process; return when it has ended."""
        self._child.kill()

    def terminate(self, timeout: float) -> int:
        """Send SIGTERM and return the exit status. Raises AssertionError after `timeout` seconds."""
        self._child.signal(signal.SIGTERM)
        assert self._child.ended_within(timeout), f"{self.name} did not end within {timeout:.0f} s of SIGTERM"
        status = self._child.exit_status
        assert status is not None
        return status
