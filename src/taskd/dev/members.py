"""The schedulers and workers of a cluster, each a process of its own, kept alive."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from taskd.dev.child_process import ChildProcess
from taskd.dev.folder import DataFolder
from taskd.dev.logs import Tail, taskd_warning
from taskd.dev.process_spec import Place, ProcessSpec
from taskd.dev.restarter import Restarter, Say, describe
from taskd.dev.servers.ports import LOOPBACK
from taskd.dev.stop_signals import StopSignals
from taskd.domain.errors import TaskdError

READY_DEADLINE = 60.0
SCHEDULER_GRACE = 10.0
#: Seconds that a worker may need beyond its grace, to stop its executors and to settle in PostgreSQL.
WORKER_MARGIN = 5.0


class Members:
    """The schedulers and workers. `start` returns when all answer; `stop` ends them in order, `kill` at once."""

    def __init__(
        self,
        schedulers: Sequence[ProcessSpec],
        workers: Sequence[ProcessSpec],
        *,
        folder: DataFolder,
        signals: StopSignals,
        say: Say,
        worker_grace: float,
        alone: bool = True,
    ) -> None:
        """Store the parts. `worker_grace`: seconds that the workers' tasks may take at the end.

        Unless `alone`, the cluster has other schedulers too, and one of them may lead.
        """
        self._alone = alone
        self._schedulers = schedulers
        self._workers = workers
        self._folder = folder
        self._signals = signals
        self._worker_grace = worker_grace
        self._say = say
        #: By name.
        self.restarters: dict[str, Restarter] = {}

    def start(self, servers: Mapping[Place, str], options: tuple[str, ...], environment: Mapping[str, str]) -> None:
        """Start all against `servers`, with these global options. Raises TaskdError, StopAsked."""
        # Jobs that tasks submit go to this cluster, whatever the user's own variable says.
        servers_of_tasks = ",".join(f"http://{LOOPBACK}:{port}" for port in self.scheduler_ports)
        environment = {"TASKD_SERVER": servers_of_tasks, **environment} if servers_of_tasks else environment
        for part in (*self._schedulers, *self._workers):
            log = self._folder.logs / f"{part.name}.log"
            child = ChildProcess(part.name, log, self._folder.run / f"{part.name}.pid")
            launch = partial(child.spawn, part.program(servers, options, environment))
            self.restarters[part.name] = restarter = Restarter(
                part.name, child, launch, Tail(log, taskd_warning), self._say
            )
            restarter.launch()
        self._await_ready()

    @property
    def scheduler_ports(self) -> list[int]:
        """The ports of the schedulers' APIs."""
        return [part.port for part in self._schedulers]

    def child(self, name: str) -> ChildProcess:
        """Return the process of this name."""
        return self.restarters[name].child

    def _await_ready(self) -> None:
        """Return when every scheduler is healthy, one leads, and every worker is registered. Raises TaskdError."""
        deadline = time.monotonic() + READY_DEADLINE
        while missing := self.missing():
            for name, restarter in self.restarters.items():
                if restarter.child.pid is None:
                    ended = describe(restarter.child.exit_status)
                    last = _last_line(restarter.child).removeprefix("error: ")
                    raise TaskdError(f"{name} ended at once ({ended}): {last}")
            if time.monotonic() > deadline:
                raise TaskdError(
                    f"{', '.join(missing)} did not answer within {READY_DEADLINE:.0f} s: see {self._folder.logs}"
                )
            self._signals.pause(0.05)

    def missing(self) -> list[str]:
        """Return the names of the processes that do not answer yet."""
        silent = [part.name for part in self._schedulers if fetch(part.port, "/health") is None]
        if silent:
            return silent
        # /health needs no token, but describes one scheduler only.
        path, field = ("/health", "is_leader") if self._alone else ("/leader", "current_leader")
        if not any((fetch(part.port, path) or {}).get(field) for part in self._schedulers):
            return ["a leader"]
        # By pid: a worker of a killed cluster is listed until its lease ends.
        listed = fetch(self._schedulers[0].port, "/workers")
        if listed is None:  # the API has tokens, and none with the right to read is at hand: ask the workers directly
            return [part.name for part in self._workers if fetch(part.port, "/health") is None]
        present = {worker.get("pid") for worker in listed["workers"]}
        return [part.name for part in self._workers if self.child(part.name).pid not in present]

    # ---------------------------------------------------------------- stopping

    def stop(self) -> None:
        """Stop the workers first, so that they can hand back their jobs, then the schedulers. Raises StopAsked."""
        self._end(self._workers, self._worker_grace + WORKER_MARGIN)
        self._end(self._schedulers, SCHEDULER_GRACE)

    def kill(self) -> None:
        """SIGKILL every process that still runs."""
        for restarter in self.restarters.values():
            restarter.child.kill()

    def _end(self, parts: Sequence[ProcessSpec], grace: float) -> None:
        children = [self.child(part.name) for part in parts if part.name in self.restarters]
        for child in children:
            child.signal(signal.SIGTERM)
            child.resume()
        deadline = time.monotonic() + grace
        for child in children:
            if not child.ended_within(max(0.0, deadline - time.monotonic()), self._signals.pause):
                self._say(child.name, f"did not end within {grace:.0f} s; killed")
            child.kill()


def fetch(port: int, path: str) -> dict[str, Any] | None:
    """Return the JSON object that a scheduler or worker answers with status 200, else None."""
    token = os.environ.get("TASKD_TOKEN")
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=3)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        document = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return document if response.status == http.client.OK and isinstance(document, dict) else None


def _last_line(child: ChildProcess) -> str:
    lines = [taskd_warning(line) for line in child.output().splitlines()]
    return next((line for line in reversed(lines) if line), f"it logged nothing; its log is {child.log}")
