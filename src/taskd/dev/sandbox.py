"""A private cluster for the tests of one session: real servers, one scheduler, and workers for the apps that tests name."""

from __future__ import annotations

import importlib
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
from taskd.dev.child_process import ChildProcess
from taskd.dev.folder import DataFolder
from taskd.dev.members import SCHEDULER_GRACE, answer
from taskd.dev.process import PROC, is_stopped
from taskd.dev.restarter import describe
from taskd.dev.servers import binaries
from taskd.dev.servers.ports import free_port
from taskd.dev.servers.servers import Servers
from taskd.dev.temporary import temporary_data
from taskd.domain.errors import TaskdError
from taskd.store.migrations import migrate
from taskd.store.pinned import startup

PREFIX = "taskd-pytest-"
READY_DEADLINE = 120.0
#: Nothing of a test session outlives it.
POSTGRES = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
_LIVE_JOBS = "SELECT id, status, task, queue, error FROM taskd.jobs ORDER BY id LIMIT 5"
#: In this order: schedules would fire, and jobs become finished ones. Ids go on counting, so that what is still on its way to a
#: worker names no job of the next test.
_SCHEDULES = ("DELETE FROM taskd.schedules", "DELETE FROM taskd.fires")
_JOBS = "DELETE FROM taskd.jobs RETURNING status"
_REST = ("DELETE FROM taskd.finished_jobs", "DELETE FROM taskd.notes", "DELETE FROM taskd.dedupe_keys")
_LIVE_SETTINGS = 'SELECT "values" FROM taskd.live_versions ORDER BY version DESC LIMIT 1'


class WorkerRequest(NamedTuple):
    """What one worker was started for."""

    app: str
    queues: str
    concurrency: int
    environment: tuple[tuple[str, str], ...]


class Started(NamedTuple):
    """A process of the sandbox, and what it was started as."""

    child: ChildProcess
    part: process_spec.ProcessSpec

    @property
    def serves(self) -> bool:
        """Whether this worker takes jobs: it answers and does not drain.

        A process that was just killed may be listed for a moment longer, but it answers no new question.
        """
        deadline = time.monotonic() + READY_DEADLINE
        while (pid := self.child.pid) is not None and time.monotonic() < deadline:
            stats = answer(self.part.port, "/metrics")
            if stats is not None:
                return not stats.get("draining")
            if PROC.exists() and is_stopped(pid):
                return False
            time.sleep(0.02)
        return False


class Sandbox:
    """What the fixture `taskd_cluster` gives. `with Sandbox():` returns when the scheduler leads, and ends without a trace.

    Duties: 1. end what a killed session left; 2. servers and a scheduler for the session; 3. a worker for each app that a test
    names, kept for the next test; 4. empty everything between tests; 5. tell what the processes have logged during a test.

    Use it in the thread that made it: the lives of its processes are tied to that one. Raises TaskdError.
    """

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._workers: dict[WorkerRequest, Started] = {}
        #: Workers that tests have asked to end, and which may still do that.
        self._leaving: list[ChildProcess] = []
        #: The workers that the present test has asked for.
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
            stack.callback(lambda: self._scheduler.child.stop(signal.SIGTERM, 5.0))  # the one of then
            _await(self._scheduler, "is_leader")
            #: A client of this cluster.
            self.client = stack.enter_context(Client(self.url))
            stack.callback(self._dismiss)
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
        """See that a worker runs this app's tasks: one of an earlier test with the same arguments, or a new one.

        Others that earlier tests have asked for are killed; a test may have several of its own. One that was killed or is about
        to end is replaced.

        `app` is an App or its name, as in `taskd worker --app`. `queues` are comma-separated; without, it serves "default" and
        every queue that a task of the app names. It finds modules where this process does, and gets its environment variables.
        Raises TaskdError with the worker's last words if it does not start, LookupError for an app that has no name.
        """
        name, found = _located(app)
        if found.server is not None and found.server != self.url:
            raise TaskdError(
                f"{name} has server={shown(found.server)!r}, and its tasks would be submitted there: leave that out, "
                "set TASKD_SERVER"
            )
        found.close()  # it may know another address from before
        wanted = WorkerRequest(name, queues or _queues(found), concurrency, tuple(sorted((environment or {}).items())))
        self._asked.add(wanted)
        for other in self._workers.keys() - self._asked:
            self._workers.pop(other).child.kill()
        known = self._workers.get(wanted)
        if known is None or not known.serves:
            self._workers.pop(wanted, None)
            self._workers[wanted] = self._start(wanted, None if known is None else self._retired(known))

    def stop_workers(self) -> None:
        """Kill every worker, also of earlier tests: for a test that wants none, or new ones (`worker` starts them)."""
        for child in self._children():
            child.kill()
        self._workers.clear()
        self._leaving.clear()
        self._asked.clear()

    @property
    def worker_pids(self) -> list[int]:
        """The processes of its workers, for a test that kills one."""
        return [child.pid for child in self._children() if child.pid is not None]

    def jobs(self, **wanted: str | int) -> list[dict[str, Any]]:
        """The jobs of this test, newest first; `wanted` are the parameters of GET /jobs, as in jobs(status="failed")."""
        return self.client.list_jobs(**wanted)

    def wait(self, timeout: float = 30.0) -> None:
        """Return when no job is pending, queued or running. Raises TimeoutError, naming some, after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with psycopg.connect(self.dsn, autocommit=True, **startup()) as connection:
            while live := connection.execute(_LIVE_JOBS).fetchall():
                if time.monotonic() > deadline:
                    told = "; ".join(_told(*row) for row in live)
                    raise TimeoutError(f"jobs are still live after {timeout:g} seconds: {told}")
                time.sleep(0.02)

    def empty(self) -> None:
        """Remove every job, schedule and live setting. Workers stay, unless one has a job in hand: then all are killed.

        Those that the test has asked to end are killed too: the next test is not to find them.
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
        """What scheduler and workers have logged since the last look."""
        return "".join(self._fresh_lines())

    # ---------------------------------------------------------------- processes

    def begin(self) -> None:
        """See that the scheduler leads, also after a test that has killed it. Raises TaskdError."""
        if (answer(self._scheduler.part.port, "/health") or {}).get("is_leader"):
            return
        if self._scheduler.child.ended_within(SCHEDULER_GRACE):
            self._scheduler = self._spawn(self._scheduler.part, {})
        _await(self._scheduler, "is_leader")

    def _retired(self, known: Started) -> str | None:
        """See off a worker that takes nothing any more; its name, if another one may have it now."""
        child = known.child
        if child.pid is not None and not (PROC.exists() and is_stopped(child.pid)):
            self._leaving.append(child)
            return None
        child.kill()
        return child.name

    def _children(self) -> list[ChildProcess]:
        return [*(started.child for started in self._workers.values()), *self._leaving]

    def _start(self, wanted: WorkerRequest, name: str | None = None) -> Started:
        """Start a worker. With the name of a dead one it ends that one's session, and its jobs need not wait for the lease."""
        self._made += name is None
        settings = {
            "app": wanted.app,
            "queues": wanted.queues,
            "concurrency": str(wanted.concurrency),
            "processes": "1",
        }
        part = process_spec.worker(name or f"worker-{self._made}", settings, process_spec.configured_worker())
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        started = self._spawn(part, {"PYTHONPATH": path, "TASKD_SERVER": self.url, **dict(wanted.environment)})
        try:
            _await(started, "status")
        except BaseException:
            started.child.kill()
            raise
        return started

    def _spawn(self, part: process_spec.ProcessSpec, more: Mapping[str, str]) -> Started:
        child = ChildProcess(part.name, self._folder.logs / f"{part.name}.log", self._folder.run / f"{part.name}.pid")
        child.spawn(part.program(self._servers.settings(), (), {"TASKD_LOG__FORMAT": "TEXT", **more}))
        return Started(child, part)

    def _dismiss(self) -> None:
        """Let the workers end in good order, all at once."""
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


def _await(started: Started, field: str) -> None:
    """Return when it answers and this field of its health is true. Raises TaskdError."""
    child, deadline = started.child, time.monotonic() + READY_DEADLINE
    while not (answer(started.part.port, "/health") or {}).get(field):
        if child.pid is None:
            last = next((line for line in reversed(child.said().splitlines()) if line.strip()), "it said nothing")
            raise TaskdError(
                f"{child.name} ended at once ({describe(child.exit_status)}): {last.removeprefix('error: ')}"
            )
        if time.monotonic() > deadline:
            raise TaskdError(f"{child.name} did not answer within {READY_DEADLINE:.0f} s: {child.said()[-500:]}")
        time.sleep(0.02)


def _located(app: App | str) -> tuple[str, App]:
    """An app with the name by which a worker can load it. Raises LookupError."""
    if isinstance(app, str):
        module_name, _, attribute = app.partition(":")
        found = getattr(importlib.import_module(module_name), attribute or "app", None)
        if isinstance(found, App):
            return app, found
        raise LookupError(f"{app!r} is no taskd.App: name it as in taskd worker --app, package.module:attribute")
    for name, module in _homes_first(app):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is app and name != "__main__":
                return f"{name}:{attribute}", app
    raise LookupError(
        "the App is no variable of a module, so no worker can load it: write app = taskd.App() at its top level"
    )


def _homes_first(app: App) -> list[tuple[str, Any]]:
    """The modules of this process; first those that have tasks of the app, as a test imports the app and defines none."""
    homes = {getattr(task.function, "__module__", None) for task in app.tasks.values()}
    return sorted(sys.modules.items(), key=lambda item: item[0] not in homes)


def _queues(app: App) -> str:
    return ",".join(dict.fromkeys(("default", *sorted(app.queues))))


def _told(job_id: int, status: str, task: str, queue: str, error: str | None) -> str:
    last = f", last error: {(error.strip().splitlines() or [''])[-1]}" if error else ""
    return f"{job_id} ({task}) is {status} in the queue {queue!r}{last}"
