"""A private cluster for the tests of one session: real servers, one scheduler, and workers for the tests' apps."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from taskd.app import App
from taskd.client import Client
from taskd.client.servers import shown
from taskd.dev import process_spec
from taskd.dev.app_location import locate, queues_of
from taskd.dev.child_process import ChildProcess
from taskd.dev.folder import DataFolder
from taskd.dev.members import SCHEDULER_GRACE, fetch
from taskd.dev.process import PROC, is_stopped
from taskd.dev.sandbox_process import SandboxProcess, await_ready
from taskd.dev.servers import binaries
from taskd.dev.servers.ports import free_port
from taskd.dev.servers.servers import Servers
from taskd.dev.temporary import temporary_data
from taskd.domain.errors import TaskdError
from taskd.store.migrations import migrate
from taskd.store.pinned import startup

PREFIX = "taskd-pytest-"
#: The data of a test session need not survive it.
POSTGRES = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
_LIVE_JOBS = "SELECT id, status, task, queue, error FROM taskd.jobs ORDER BY id LIMIT 5"
#: Deleted in this order: schedules could fire, and jobs could finish meanwhile. Ids go on counting, so that an entry that is
#: still on its way to a worker names no job of the next test.
_SCHEDULES = ("DELETE FROM taskd.schedules", "DELETE FROM taskd.fires")
_JOBS = "DELETE FROM taskd.jobs RETURNING status"
_REST = ("DELETE FROM taskd.finished_jobs", "DELETE FROM taskd.notes", "DELETE FROM taskd.dedupe_keys")
_LIVE_SETTINGS = 'SELECT "values" FROM taskd.live_versions ORDER BY version DESC LIMIT 1'


class WorkerRequest(NamedTuple):
    """The arguments for which a worker was started."""

    app: str
    queues: str
    concurrency: int
    environment: tuple[tuple[str, str], ...]


class Sandbox:
    """The value of the fixture `taskd_cluster`: a cluster that is emptied between tests.

    `with Sandbox():` ends the leftovers of a killed session, starts the servers and a scheduler, and returns when the
    scheduler leads. A worker is started for each app that a test names, and kept for the next test. At the end no process and
    no data remain.

    Use it in the thread that made it: the lives of its processes are tied to that thread. Raises TaskdError.
    """

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._workers: dict[WorkerRequest, SandboxProcess] = {}
        #: Workers that tests have asked to end, and that may not have ended yet.
        self._leaving: list[ChildProcess] = []
        #: The workers that the current test has asked for.
        self._asked: set[WorkerRequest] = set()
        self._made = 0
        self._read: dict[Path, int] = {}

    def __enter__(self) -> Sandbox:
        with ExitStack() as stack:
            folder = self._folder = DataFolder(stack.enter_context(temporary_data(PREFIX)))
            folder.take()
            stack.callback(folder.release)
            servers = self._servers = Servers(binaries.find(), folder.path, durable_redis=False, postgres=POSTGRES)
            servers.start()
            stack.callback(servers.kill)
            migrate(servers.settings()["postgres", "dsn"])
            port = free_port()
            #: The scheduler's address: TASKD_SERVER during a test.
            self.url = f"http://localhost:{port}"
            self._scheduler = self._spawn(process_spec.scheduler("scheduler", port, process_spec.LEADERSHIP), {})
            stack.callback(lambda: self._scheduler.child.stop(signal.SIGTERM, 5.0))  # `begin` may have replaced it
            await_ready(self._scheduler, "is_leader")
            #: A client of this cluster.
            self.client = stack.enter_context(Client(self.url))
            stack.callback(self._end_workers)
            self._ends = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ends.close()

    @property
    def dsn(self) -> str:
        """The connection string of its PostgreSQL."""
        return self._servers.settings()["postgres", "dsn"]

    @property
    def redis_url(self) -> str:
        """The address of its Redis."""
        return self._servers.redis.url

    @property
    def etcd_endpoint(self) -> str:
        """HOST:PORT of its etcd."""
        return self._servers.etcd.endpoint

    def worker(
        self,
        app: App | str,
        *,
        queues: str | None = None,
        concurrency: int = 10,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Make sure that a worker runs this app's tasks: one of an earlier test with the same arguments, or a new one.

        Workers that only earlier tests asked for are killed; a test may have several. A worker that was killed or is about to
        end is replaced.

        `app` is an App or its name, as in `taskd worker --app`. `queues` are comma-separated; without them, the worker serves
        "default" and every queue of the app's tasks. It has this process's module search path and environment variables.
        Raises TaskdError with the worker's last line if it does not start, LookupError for an app that has no name.
        """
        name, located = locate(app)
        if located.server is not None and located.server != self.url:
            raise TaskdError(
                f"{name} has server={shown(located.server)!r}, and its tasks would be submitted there: leave that out, "
                "set TASKD_SERVER"
            )
        located.close()  # it may have a client for an earlier address
        variables = tuple(sorted((environment or {}).items()))
        request = WorkerRequest(name, queues or queues_of(located), concurrency, variables)
        self._asked.add(request)
        for other in self._workers.keys() - self._asked:
            self._workers.pop(other).child.kill()
        known = self._workers.get(request)
        if known is None or not known.serves:
            self._workers.pop(request, None)
            self._workers[request] = self._start(request, None if known is None else self._retire(known))

    def stop_workers(self) -> None:
        """Kill every worker, also those of earlier tests. `worker` starts new ones."""
        for child in self._children():
            child.kill()
        self._workers.clear()
        self._leaving.clear()
        self._asked.clear()

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of its workers, for a test that kills one."""
        return [child.pid for child in self._children() if child.pid is not None]

    def jobs(self, **filters: str | int) -> list[dict[str, Any]]:
        """Return the jobs of this test, newest first. `filters` are the parameters of GET /jobs: jobs(status="failed")."""
        return self.client.list_jobs(**filters)

    def wait(self, timeout: float = 30.0) -> None:
        """Return when no job is pending, queued or running. Raises TimeoutError, with some of them, after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with psycopg.connect(self.dsn, autocommit=True, **startup()) as connection:
            while live := connection.execute(_LIVE_JOBS).fetchall():
                if time.monotonic() > deadline:
                    jobs = "; ".join(_description(*row) for row in live)
                    raise TimeoutError(f"jobs are still live after {timeout:g} seconds: {jobs}")
                time.sleep(0.02)

    def empty(self) -> None:
        """Remove every job, schedule and value of the live configuration. Workers stay, unless a job is running: then all
        are killed. Workers that the test has asked to end are killed too.
        """
        self._asked.clear()
        for child in self._leaving:
            child.kill()
        self._leaving.clear()
        with psycopg.connect(self.dsn, **startup()) as connection:
            for statement in _SCHEDULES:
                connection.execute(statement.encode())
            left = connection.execute(_JOBS).fetchall()
            for statement in _REST:
                connection.execute(statement.encode())
            changed = connection.execute(_LIVE_SETTINGS).fetchone()
        if any(status == "running" for (status,) in left):
            self.stop_workers()
        for key in changed[0] if changed else ():
            self.client.unconfigure(key, "taskd_cluster")

    def said(self) -> str:
        """Return the log lines of scheduler and workers since the last call."""
        return "".join(self._fresh_lines())

    # ---------------------------------------------------------------- processes

    def begin(self) -> None:
        """Make sure that the scheduler leads, also after a test that killed it. Raises TaskdError."""
        if (fetch(self._scheduler.spec.port, "/health") or {}).get("is_leader"):
            return
        if self._scheduler.child.ended_within(SCHEDULER_GRACE):
            self._scheduler = self._spawn(self._scheduler.spec, {})
        await_ready(self._scheduler, "is_leader")

    def _retire(self, known: SandboxProcess) -> str | None:
        """Remove a worker that takes no more jobs. Return its name if a new worker may have it."""
        child = known.child
        if child.pid is not None and not (PROC.exists() and is_stopped(child.pid)):
            self._leaving.append(child)
            return None
        child.kill()
        return child.name

    def _children(self) -> list[ChildProcess]:
        return [*(started.child for started in self._workers.values()), *self._leaving]

    def _start(self, request: WorkerRequest, name: str | None = None) -> SandboxProcess:
        """Start a worker. With a dead worker's name it ends that worker's session, so its jobs need not wait for the lease."""
        self._made += name is None
        settings = {
            "app": request.app,
            "queues": request.queues,
            "concurrency": str(request.concurrency),
            "processes": "1",
        }
        spec = process_spec.worker(name or f"worker-{self._made}", settings, process_spec.configured_worker())
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        started = self._spawn(spec, {"PYTHONPATH": path, "TASKD_SERVER": self.url, **dict(request.environment)})
        try:
            await_ready(started, "status")
        except BaseException:
            started.child.kill()
            raise
        return started

    def _spawn(self, spec: process_spec.ProcessSpec, more: Mapping[str, str]) -> SandboxProcess:
        child = ChildProcess(spec.name, self._folder.logs / f"{spec.name}.log", self._folder.run / f"{spec.name}.pid")
        child.spawn(spec.program(self._servers.settings(), (), {"TASKD_LOG__FORMAT": "TEXT", **more}))
        return SandboxProcess(child, spec)

    def _end_workers(self) -> None:
        """Let all workers end in an orderly way, at the same time."""
        for child in self._children():
            child.signal(signal.SIGTERM)
        for child in self._children():
            child.stop(signal.SIGTERM, process_spec.WORKER_GRACE)

    def _fresh_lines(self) -> Iterator[str]:
        for log in sorted(self._folder.logs.glob("*.log")):
            if log.stem.startswith(("scheduler", "worker")):
                with log.open("rb") as file:
                    file.seek(self._read.get(log, 0))
                    text = file.read()
                    self._read[log] = file.tell()
                yield "".join(f"{log.stem}: {line}\n" for line in text.decode("utf-8", "replace").splitlines())


def _description(job_id: int, status: str, task: str, queue: str, error: str | None) -> str:
    last = f", last error: {(error.strip().splitlines() or [''])[-1]}" if error else ""
    return f"{job_id} ({task}) is {status} in the queue {queue!r}{last}"
