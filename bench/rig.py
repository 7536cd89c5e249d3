"""A private cluster to measure: embedded servers with durability on, schedulers and workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg

from bench.machine import children, cpu, process_tree
from taskd.dev.servers import binaries
from taskd.dev.servers.ports import free_port
from taskd.dev.servers.servers import Servers
from taskd.store.migrations import migrate


@dataclass
class RunningProcess:
    """Running scheduler or worker."""

    popen: subprocess.Popen[bytes]
    url: str

    @property
    def cpu(self) -> float:
        """Return the CPU seconds used so far."""
        return cpu(self.popen.pid)

    @property
    def children(self) -> list[int]:
        """Return the process ids below it."""
        return children(self.popen.pid)

    def stop(self) -> None:
        """Send SIGTERM, and wait for the end."""
        self.popen.terminate()
        self.popen.wait(timeout=60)


@dataclass
class Rig:
    """Cluster of running servers; the measurements start its schedulers and workers."""

    servers: Servers
    folder: Path
    roles: list[RunningProcess] = field(default_factory=list)

    @property
    def dsn(self) -> str:
        return self.servers.postgres.dsn

    @property
    def tallies(self) -> Path:
        """Return the folder in which taskd's tasks count."""
        return self.folder / "tallies"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment in which taskd's processes find the servers."""
        settings = {f"TASKD_{s}__{k}".upper(): v for (s, k), v in self.servers.settings().items()}
        more = {"LOG_LEVEL": "WARNING", "LOG_FORMAT": "TEXT", "BENCH_FOLDER": str(self.tallies)}
        return {**os.environ, **settings, **more}

    def _spawn(self, *arguments: str) -> RunningProcess:
        port = free_port()
        with (self.folder / f"{arguments[0]}-{len(self.roles)}.log").open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", "taskd", *arguments, "--http-addr", f"127.0.0.1:{port}"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self.roles.append(role := RunningProcess(popen, f"http://127.0.0.1:{port}"))
        until(lambda: _ok(f"{role.url}/health"))
        return role

    def scheduler(self) -> RunningProcess:
        """Start a scheduler; return when it leads."""
        role = self._spawn("scheduler")
        until(lambda: httpx.get(f"{role.url}/leader").json()["is_leader"])
        return role

    def worker(self, slots: int, processes: int = 1, app: str = "bench.tasks") -> RunningProcess:
        """Start a worker; return when it is ready."""
        return self._spawn(
            *("worker", "--id", f"bench-{len(self.roles)}", "--app", app),
            *("--concurrency", str(slots), "--processes", str(processes)),
        )

    @contextmanager
    def idle_workers(self, workers: int, processes: int) -> Iterator[None]:
        """Run simulated idle workers in a few processes."""
        each = workers // processes
        commands = [(sys.executable, "-m", "bench.idle_workers", str(n * each), str(each)) for n in range(processes)]
        with (self.folder / "idle-workers.log").open("wb") as log:
            running = [
                subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stderr=log)
                for command in commands
            ]
        try:
            until(lambda: self.registered >= workers)
            yield
        finally:
            for process in running:
                process.kill()
                process.wait()

    @property
    def registered(self) -> int:
        """Return how many workers a scheduler sees."""
        return len(httpx.get(f"{self.roles[0].url}/workers").json()["workers"])

    @property
    def process_tree(self) -> list[int]:
        """Return every process of the servers, the schedulers and the workers that run now."""
        servers = [server.child.pid for server in (self.servers.postgres, self.servers.redis, self.servers.etcd)]
        roles = [role.popen.pid for role in self.roles if role.popen.poll() is None]
        return [member for pid in (*servers, *roles) if pid for member in process_tree(pid)]

    def empty(self) -> None:
        """Delete the remaining jobs, whose execution would take too long."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute("TRUNCATE taskd.jobs")

    def finish_background_work(self) -> None:
        """Make PostgreSQL do the remaining work of earlier measurements, so that it does not affect the next one."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("VACUUM")
            connection.execute("CHECKPOINT")

    @contextmanager
    def without_autovacuum(self) -> Iterator[None]:
        """Switch off autovacuum in the block."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("SELECT pg_reload_conf()")
        yield
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM RESET autovacuum")
            connection.execute("SELECT pg_reload_conf()")

    def finished(self) -> int:
        """Return how many jobs have ended."""
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute("SELECT coalesce(sum(n), 0)::bigint FROM taskd.finished_counts").fetchone()
        assert row is not None
        return int(row[0])

    def transactions(self) -> int:
        """Return how many transactions PostgreSQL has committed so far."""
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute(
                "SELECT pg_stat_force_next_flush(), xact_commit FROM pg_stat_database WHERE datname = current_database()"
            ).fetchone()
        assert row is not None
        return int(row[1])


def until(condition: Callable[[], object], timeout: float = 120.0) -> None:
    """Wait for `condition`. Raises TimeoutError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster did not reach the expected state in time: see its logs")
        time.sleep(0.02)


def _ok(url: str) -> bool:
    try:
        return httpx.get(url).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def batch(task: str, payload: object, jobs: int = 1000, **fields: object) -> bytes:
    """Return the body of one POST /jobs/batch."""
    return json.dumps({"jobs": [{"task": task, "payload": payload, **fields}] * jobs}).encode()


def post(client: httpx.Client, url: str, body: bytes) -> dict[str, object]:
    """Submit, and return the response."""
    response = client.post(url, content=body, headers={"content-type": "application/json"})
    response.raise_for_status()
    document: dict[str, object] = response.json()
    return document


@contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    """Start a cluster whose processes all end with the context."""
    servers = Servers(binaries.find(), folder / "servers", durable_redis=False)
    cluster = Rig(servers, folder)
    cluster.tallies.mkdir()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that SIGTERM runs the cleanup below
    try:
        servers.start()
        migrate(cluster.dsn)
        yield cluster
    finally:
        for role in cluster.roles:
            if role.popen.poll() is None:
                role.popen.kill()
                role.popen.wait()
        servers.stop()
