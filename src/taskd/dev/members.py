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
#: What a worker may need beyond its own grace: stopping its executors and telling PostgreSQL.
WORKER_MARGIN = 5.0


class Members:
    """`start` launches them and returns when all answer; `stop` ends them in order, `kill` at once."""

    def __init__(
        self,
        schedulers: Sequence[ProcessSpec],
        workers: Sequence[ProcessSpec],
        *,
        folder: DataFolder,
        bell: StopSignals,
        say: Say,
        worker_grace: float,
        alone: bool = True,
    ) -> None:
        """`worker_grace`: seconds that the workers' tasks may take at the end.

        Unless `alone`, the cluster has other schedulers too, and one of those may lead it."""
        self._alone = alone
        self._schedulers = schedulers
        self._workers = workers
        self._folder = folder
        self._bell = bell
        self._worker_grace = worker_grace
        self._say = say
        #: By name.
        self.keepers: dict[str, Restarter] = {}

    def start(self, servers: Mapping[Place, str], options: tuple[str, ...], environment: Mapping[str, str]) -> None:
        """Start all, against `servers`, with these global options. Raises TaskdError, StopAsked."""
        # What tasks submit stays here, wherever else the user's own variable leads.
        servers_of_tasks = ",".join(f"http://{LOOPBACK}:{port}" for port in self.scheduler_ports)
        environment = {"TASKD_SERVER": servers_of_tasks, **environment} if servers_of_tasks else environment
        for part in (*self._schedulers, *self._workers):
            log = self._folder.logs / f"{part.name}.log"
            child = ChildProcess(part.name, log, self._folder.run / f"{part.name}.pid")
            launch = partial(child.spawn, part.program(servers, options, environment))
            self.keepers[part.name] = keeper = Restarter(part.name, child, launch, Tail(log, taskd_warning), self._say)
            keeper.launch()
        self._await()

    @property
    def scheduler_ports(self) -> list[int]:
        """Where the schedulers' APIs are."""
        return [part.port for part in self._schedulers]

    def child(self, name: str) -> ChildProcess:
        """The process of this name."""
        return self.keepers[name].child

    def _await(self) -> None:
        """Return when every scheduler is healthy, somebody leads and every worker is registered. Raises TaskdError."""
        deadline = time.monotonic() + READY_DEADLINE
        while missing := self.missing():
            for name, keeper in self.keepers.items():
                if keeper.child.pid is None:
                    ended = describe(keeper.child.exit_status)
                    last = _last_line(keeper.child).removeprefix("error: ")
                    raise TaskdError(f"{name} ended at once ({ended}): {last}")
            if time.monotonic() > deadline:
                raise TaskdError(
                    f"{', '.join(missing)} did not answer within {READY_DEADLINE:.0f} s: see {self._folder.logs}"
                )
            self._bell.pause(0.05)

    def missing(self) -> list[str]:
        """Who does not answer yet."""
        silent = [part.name for part in self._schedulers if answer(part.port, "/health") is None]
        if silent:
            return silent
        # /health needs no token, but knows of this scheduler alone.
        path, field = ("/health", "is_leader") if self._alone else ("/leader", "current_leader")
        if not any((answer(part.port, path) or {}).get(field) for part in self._schedulers):
            return ["a leader"]
        # By pid: a worker of a killed cluster is listed until its lease ends.
        listed = answer(self._schedulers[0].port, "/workers")
        if listed is None:  # there are API tokens, and we have none that may read: ask the workers themselves
            return [part.name for part in self._workers if answer(part.port, "/health") is None]
        present = {worker.get("pid") for worker in listed["workers"]}
        return [part.name for part in self._workers if self.child(part.name).pid not in present]

    # ---------------------------------------------------------------- stopping

    def stop(self) -> None:
        """Workers first, so that they can hand back what they hold. Raises StopAsked."""
        self._end(self._workers, self._worker_grace + WORKER_MARGIN)
        self._end(self._schedulers, SCHEDULER_GRACE)

    def kill(self) -> None:
        """SIGKILL what is left."""
        for keeper in self.keepers.values():
            keeper.child.kill()

    def _end(self, parts: Sequence[ProcessSpec], grace: float) -> None:
        children = [self.child(part.name) for part in parts if part.name in self.keepers]
        for child in children:
            child.signal(signal.SIGTERM)
            child.resume()
        deadline = time.monotonic() + grace
        for child in children:
            if not child.ended_within(max(0.0, deadline - time.monotonic()), self._bell.pause):
                self._say(child.name, f"did not end within {grace:.0f} s; killed")
            child.kill()


def answer(port: int, path: str) -> dict[str, Any] | None:
    """The JSON object that a scheduler or worker answers with status 200, else None."""
    token = os.environ.get("TASKD_TOKEN")
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=3)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer if response.status == http.client.OK and isinstance(answer, dict) else None


def _last_line(child: ChildProcess) -> str:
    lines = [taskd_warning(line) for line in child.said().splitlines()]
    return next((line for line in reversed(lines) if line), f"it said nothing; its log is {child.log}")
