"""The cluster of one scenario: servers, schedulers and workers as real processes, traffic, and a record of faults."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from taskd.dev.process import descendants
from taskd.store.migrations import apply_audit, migrate
from taskd.torture.traffic import Traffic
from tests import web
from tests.chaos.cluster import ChaosCluster
from tests.chaos.member import Member
from tests.chaos.shape import QUEUES, Shape
from tests.servers import wait_until


class World(ChaosCluster):
    """Cluster with traffic, as a context: it begins when a leader leads, every worker is ready and traffic flows."""

    def __init__(self, folder: Path, shape: Shape, seed: int) -> None:
        super().__init__(folder, shape)
        self.random = random.Random(seed)
        self.seed = seed
        #: Figures that the scenario measured itself, by name, in seconds unless the name says otherwise.
        self.figures: dict[str, float] = {}
        self.healed_at = 0.0
        #: Jobs that the scenario submitted in one batch.
        self.bulk_jobs: list[int] = []
        #: Ends of processes without a fault of the scenario.
        self.unexpected: list[str] = []
        self.traffic: Traffic | None = None

    # ------------------------------------------------------------ beginning and end

    def __enter__(self) -> World:
        if self.disk is not None:
            self.disk.__enter__()
        try:
            for server in (self.redis, self.etcd, self.postgres):
                server.launch()
            for server in (self.redis, self.etcd, self.postgres):
                server.await_ready()
            migrate(self.postgres.dsn)
            if self.shape.audit:
                apply_audit(self.postgres.dsn)
            for number in range(1, self.shape.schedulers + 1):
                self.spawn_scheduler(f"s{number}")
            for number in range(1, self.shape.workers + 1):
                self.spawn_worker(f"w{number}")
            self.await_members()
            if self.shape.rate:
                self.traffic = Traffic(
                    self.urls,
                    self.history / "clients.ndjson",
                    rate=self.shape.rate,
                    mix=self.shape.mix,
                    seed=self.seed,
                    queues=QUEUES,
                    # More than the submits that arrive during the time-out of a frozen scheduler.
                    connections=int(self.shape.rate * 6),
                )
                self.traffic.start()
                _raise_priority(self.traffic.thread)
            self.began = time.monotonic()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self.traffic is not None:
            self.traffic.stop(0.0)
        for member in (*self.members.values(), *self._guests):
            member.kill()
        for server in (self.redis, self.etcd, self.postgres):
            server.kill()
        for proxy in self._proxies.values():
            proxy.close()
        if self.disk is not None:
            self.disk.__exit__()
        self._faults.close()

    # ------------------------------------------------------------ load and faults

    def flow(self, seconds: float) -> None:
        """Let traffic flow for `seconds`: the time between faults is a part of the scenario."""
        time.sleep(seconds)

    def kill(self, member: Member) -> None:
        """Send SIGKILL; return when the process has ended."""
        self.count_unexpected()
        self.note("SIGKILL", member.name, pid=member.pid)
        member.kill()

    def terminate(self, member: Member, timeout: float = 60.0) -> float:
        """Send SIGTERM; return the seconds until the process ended."""
        began = time.monotonic()
        self.note("SIGTERM", member.name, pid=member.pid)
        pid, status = member.pid, member.terminate(timeout)
        self.note("exit", member.name, pid=pid, status=status)
        return time.monotonic() - began

    @contextmanager
    def frozen(self, member: Member, *, whole: bool = False) -> Iterator[None]:
        """Send SIGSTOP to the process (with `whole`, to its executors too), and SIGCONT at the end.

        A worker's guard is left out: its part is to kill executors that stand still. If it were stopped too, the executors
        could run for some milliseconds after SIGCONT before it kills them.
        """
        pids = [member.pid, *member.executors] if whole else [member.pid]
        self.note("SIGSTOP", member.name, pids=pids)
        signal_all(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            signal_all(pids, signal.SIGCONT)
            self.note("SIGCONT", member.name, pids=pids)

    @contextmanager
    def fault(self, what: str, target: str, end: str = "heal") -> Iterator[None]:
        """Record the beginning and the end of a fault; an outage that the body repairs ends with "restart"."""
        self.note(what, target)
        try:
            yield
        finally:
            self.note(end, target)
            self.healed_at = time.time()

    @contextmanager
    def standstill(self, name: str) -> Iterator[None]:
        """Send SIGSTOP to a server and its descendants, and SIGCONT at the end.

        The descendants get their own signals, since each backend of PostgreSQL leads its own process group.
        """
        pid = self.server(name).child.pid
        assert pid is not None
        with self.fault("SIGSTOP", name, "SIGCONT"):
            try:
                signal_all([pid], signal.SIGSTOP)  # from now on it starts no children
                signal_all(descendants(pid), signal.SIGSTOP)
                yield
            finally:
                signal_all([*descendants(pid)[::-1], pid], signal.SIGCONT)

    def healed(self) -> None:
        """Record that all faults have ended by now."""
        self.healed_at = time.time()

    def revive(self) -> None:
        """Restart members that have ended, without failpoints."""
        self.count_unexpected()
        for member in list(self.members.values()):
            if not member.alive:
                spawn = self.spawn_scheduler if member.role == "scheduler" else self.spawn_worker
                spawn(member.name, TASKD_FAILPOINT="")
        self.await_members()

    def count_unexpected(self) -> None:
        """Record members that ended without a fault of the scenario."""
        for member in self.members.values():
            if not member.alive and member.pid not in self._ended and not self._meant_to_die(member):
                self.unexpected.append(f"{member.name} died by itself, with status {member.status}")
                self._ended.add(member.pid)

    def _meant_to_die(self, member: Member) -> bool:
        """Return True if a failpoint of the whole scenario killed the member."""
        return member.status == -signal.SIGKILL and ":kill" in self.shape.environment.get("TASKD_FAILPOINT", "")

    def repair(self) -> None:
        """Heal all links and restart all servers and members that have ended."""
        for proxy in self._proxies.values():
            proxy.heal()
        for server in (self.redis, self.etcd, self.postgres):
            if server.child.pid is None:
                server.start()
        self.revive()
        if not self.healed_at:
            self.healed()

    # ------------------------------------------------------------ the scenario's jobs

    def request(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Send a request to the first scheduler that runs."""
        return web.request(method, f"{self.schedulers[0].url}{path}", json=body, timeout=10)

    def submit(self, task: str, payload: Any, **fields: Any) -> int:
        """Submit one job and return its id."""
        response = self.request("POST", "/jobs", {"task": task, "payload": payload, **fields})
        assert response.status_code == 201, response.text
        return int(response.json()["id"])

    def job(self, job: int) -> dict[str, Any]:
        """Return the JSON document of a job."""
        document: dict[str, Any] = self.request("GET", f"/jobs/{job}").json()
        return document

    def cancel(self, job: int) -> None:
        """Cancel a job that is not final yet."""
        assert self.request("POST", f"/jobs/{job}/cancel").status_code == 200

    def until(self, condition: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Return the first true value of `condition`."""
        return wait_until(condition, timeout)


def waits_for_a_lock(world: World) -> bool:
    """Return True while a statement of a leader waits for a row lock."""
    with psycopg.connect(world.postgres.dsn) as connection:
        rows = connection.execute(
            "SELECT FROM pg_stat_activity WHERE application_name LIKE 'taskd:leader:%' AND wait_event_type = 'Lock'"
        )
        return rows.fetchone() is not None


def signal_all(pids: Sequence[int], number: int) -> None:
    """Send a signal to those of the processes that still run."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _raise_priority(thread: int | None) -> None:
    """Raise the priority of the load's thread, if permitted.

    The client shares the machine with the cluster; otherwise its own wait for the processor would count as response time.
    """
    if thread is not None and hasattr(os, "PRIO_PROCESS") and os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, thread, -10)
