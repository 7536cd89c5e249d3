"""`taskd dev`: three servers, N schedulers and M workers, each a process of its own, kept alive until the user has enough."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from taskd.dev import binaries, role
from taskd.dev.bell import Bell, StopAsked
from taskd.dev.child import Child
from taskd.dev.folder import DataFolder
from taskd.dev.keeper import Keeper, Say, describe
from taskd.dev.logs import Interpreter, Tail, etcd_warning, no_warning, postgres_warning, taskd_warning
from taskd.dev.plan import Plan
from taskd.dev.ports import LOOPBACK, is_free
from taskd.dev.servers import Server, Servers
from taskd.domain.errors import ConfigurationError, TaskdError
from taskd.store.migrations import migrate

LOOK_EVERY = 0.25
READY_DEADLINE = 60.0
SCHEDULER_GRACE = 10.0
#: What a worker may need beyond its own grace: stopping its executors and telling PostgreSQL.
WORKER_MARGIN = 5.0


class Cluster:
    """A running cluster. `with Cluster(plan, say) as cluster:` returns when everything answers and ends without a trace.

    Duties: 1. end what a killed predecessor left; 2. refuse what cannot work (folder, ports, binaries) before anything
    starts; 3. start servers, migrate, start schedulers and workers, wait until they answer; 4. start again what dies; 5. stop
    workers, then schedulers, then servers. Raises TaskdError, StopAsked. Use it in the main thread: the children's lives
    are tied to it, and so are signals.
    """

    def __init__(self, plan: Plan, say: Say) -> None:
        self.plan = plan
        self.folder = DataFolder(plan.data)
        self._say = say
        self._bell = Bell()
        self._servers: Servers | None = None
        self._keepers: list[Keeper] = []
        self._roles: dict[str, Child] = {}
        self._begun = time.monotonic()
        self.start_seconds = 0.0

    @property
    def urls(self) -> list[str]:
        """Each scheduler's address."""
        return [f"http://localhost:{self.plan.port + number}" for number in range(self.plan.schedulers)]

    @property
    def servers(self) -> Servers:
        """The three servers, once they were started."""
        assert self._servers is not None, "the cluster was not started"
        return self._servers

    @property
    def worker_names(self) -> list[str]:
        """The workers' ids."""
        return [f"worker-{number}" for number in range(1, self.plan.workers + 1)]

    def __enter__(self) -> Cluster:
        self.folder.take()
        self._bell.__enter__()
        try:
            for name in self.folder.end_leftovers():
                self._say(name, "was left running by a killed `taskd dev`; ended")
            self._require_ports()
            self._start()
            self.start_seconds = time.monotonic() - self._begun
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._stop()
        finally:
            self._bell.__exit__()
            self.folder.release()

    def keep(self, until: Callable[[], bool] = lambda: False, every: float = LOOK_EVERY) -> None:
        """Keep everything alive until `until`, asked each `every` seconds, is true.

        Raises StopAsked when the user or the system ends the cluster.
        """
        while not until():
            for keeper in self._keepers:
                keeper.look()
            self._bell.pause(every)

    # ---------------------------------------------------------------- starting

    def _require_ports(self) -> None:
        ports = range(self.plan.port, self.plan.port + self.plan.schedulers)
        taken = [port for port in ports if not is_free(port)]
        if taken:
            raise ConfigurationError(
                f"port {taken[0]} is taken: stop what listens there, or choose others with --port {ports[-1] + 10}"
            )

    def _start(self) -> None:
        if self.plan.fresh:
            self.folder.empty()
        found = binaries.find(binaries.Search(source=self.plan.source, data_version=self.folder.postgres_version()))
        self._servers = Servers(found, self.folder.path)
        self._servers.start(pause=self._bell.pause)
        for server, interpret in (
            (self._servers.postgres, postgres_warning),
            (self._servers.redis, no_warning),
            (self._servers.etcd, etcd_warning),
        ):
            self._adopt(server, interpret)
        applied = migrate(self._servers.settings()["postgres", "dsn"])
        if applied:
            self._say("PostgreSQL", f"schema made: {len(applied)} migration{'s' if len(applied) > 1 else ''} applied")
        self._start_roles()
        self._await_roles()

    def _adopt(self, server: Server, interpret: Interpreter) -> None:
        """Keep a server that runs already."""
        tail = Tail(server.child.log, interpret)
        self._keepers.append(Keeper(server.title, server.child, server.launch, tail, self._say))

    def _start_roles(self) -> None:
        schedulers = [role.scheduler(number + 1, self.plan.port + number) for number in range(self.plan.schedulers)]
        workers = [role.worker(number + 1, self.plan.worker) for number in range(self.plan.workers)]
        options = self.plan.options
        for part in (*schedulers, *workers):
            log = self.folder.logs / f"{part.name}.log"
            child = Child(part.name, log, self.folder.run / f"{part.name}.pid")
            launch = partial(child.spawn, part.program(self.servers.settings(), options))
            keeper = Keeper(part.name, child, launch, Tail(log, taskd_warning), self._say)
            self._roles[part.name] = child
            keeper.launch()
            self._keepers.append(keeper)

    def _await_roles(self) -> None:
        """Return when every scheduler is healthy, one leads and every worker is registered. Raises TaskdError."""
        deadline = time.monotonic() + READY_DEADLINE
        while missing := self._missing():
            for name, child in self._roles.items():
                if child.pid is None:
                    raise TaskdError(
                        f"{name} ended at once ({describe(child.exit_status)}): {_last_line(child).removeprefix('error: ')}"
                    )
            if time.monotonic() > deadline:
                raise TaskdError(
                    f"{', '.join(missing)} did not answer within {READY_DEADLINE:.0f} s: see {self.folder.logs}"
                )
            self._bell.pause(0.05)

    def _missing(self) -> list[str]:
        """Who does not answer yet."""
        silent = [
            f"scheduler-{number + 1}"
            for number in range(self.plan.schedulers)
            if _get(self.plan.port + number, "/health") is None
        ]
        if silent:
            return silent
        ports = range(self.plan.port, self.plan.port + self.plan.schedulers)
        if not any((_get(port, "/leader") or {}).get("is_leader") for port in ports):
            return ["a leader"]
        # By pid: a worker of a killed cluster is listed until its lease ends.
        listed = _get(self.plan.port, "/workers")
        present = {worker.get("pid") for worker in listed["workers"]} if listed is not None else set()
        return [name for name in self.worker_names if self._roles[name].pid not in present]

    # ---------------------------------------------------------------- stopping

    def _stop(self) -> None:
        """Workers first, so that they can hand back what they hold; a second Ctrl-C kills what is left."""
        workers = [child for name, child in self._roles.items() if name.startswith("worker")]
        schedulers = [child for name, child in self._roles.items() if name.startswith("scheduler")]
        grace = float(os.environ.get("TASKD_WORKER__GRACE", role.WORKER_GRACE)) + WORKER_MARGIN
        try:
            self._end(workers, grace)
            self._end(schedulers, SCHEDULER_GRACE)
            if self._servers is not None:
                self._servers.stop()
        except StopAsked:
            self._say("taskd dev", "killing what is left")
        finally:
            for child in (*workers, *schedulers):
                child.kill()
            if self._servers is not None:
                self._servers.kill()

    def _end(self, children: list[Child], grace: float) -> None:
        for child in children:
            child.signal(signal.SIGTERM)
            child.resume()
        deadline = time.monotonic() + grace
        for child in children:
            if not child.ended_within(max(0.0, deadline - time.monotonic()), self._bell.pause):
                self._say(child.name, f"did not end within {grace:.0f} s; killed")
            child.kill()


def _get(port: int, path: str) -> dict[str, Any] | None:
    """The JSON object that a scheduler answers with status 200, else None."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=3)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer if response.status == http.client.OK and isinstance(answer, dict) else None


def _last_line(child: Child) -> str:
    lines = [taskd_warning(line) for line in child.said().splitlines()]
    return next((line for line in reversed(lines) if line), f"it said nothing; its log is {child.log}")
