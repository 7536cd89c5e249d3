"""The cluster of one scenario: servers, schedulers and workers as real processes, traffic, and a note of each fault."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from taskd.dev.process import descendants
from taskd.dev.servers import binaries
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.ports import free_port
from taskd.dev.servers.postgres import PostgresServer
from taskd.dev.servers.server import Server
from taskd.dev.servers.valkey import RedisServer
from taskd.store.migrations import apply_audit, migrate
from taskd.torture.traffic import Traffic
from tests import web
from tests.chaos.disk import SmallDisk
from tests.chaos.member import Member
from tests.chaos.proxy import Proxy
from tests.chaos.shape import LINKS, QUEUES, SHARD, TIMINGS, Shape
from tests.servers import wait_until


class World:
    """`with World(folder, shape, seed) as world:` returns when a leader leads, every worker works and traffic flows."""

    def __init__(self, folder: Path, shape: Shape, seed: int) -> None:
        self.folder, self.shape = folder, shape
        self.random = random.Random(seed)
        self.seed = seed
        self.history = folder / "history"
        self.history.mkdir(parents=True)
        self.members: dict[str, Member] = {}
        self._guests: list[Member] = []
        #: Figures that a scenario measured itself, by name, in seconds unless the name says otherwise.
        self.figures: dict[str, float] = {}
        self.healed_at = 0.0
        #: The jobs that a scenario submitted in one go.
        self.mass: list[int] = []
        #: Ends of processes that nobody brought about.
        self.surprises: list[str] = []
        self._ended: set[int] = set()
        self._proxies: dict[tuple[str, str], Proxy] = {}
        self._faults = (self.history / "faults.ndjson").open("a")
        self.disk = SmallDisk(folder / "disk", shape.disk) if shape.disk else None
        found = binaries.find()
        logs = folder / "logs"
        self.postgres = PostgresServer(
            found.postgres,
            (folder / "disk" if shape.disk else folder) / "postgres",
            log=logs / "postgres.log",
            settings={"track_commit_timestamp": "on", **shape.postgres},
        )
        self.redis = RedisServer(
            found.redis, folder / "redis", log=logs / "redis.log", durable=False, settings=dict(shape.redis)
        )
        self.etcd = EtcdServer(found.etcd, folder / "etcd", log=logs / "etcd.log")
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
                    # More than come in while one waits in vain for a frozen scheduler.
                    connections=int(self.shape.rate * 6),
                )
                self.traffic.start()
                _prefer(self.traffic.thread)
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

    def await_members(self) -> None:
        """Return when every process that runs answers and one leads."""
        for member in self.members.values():
            if member.alive:
                wait_until(lambda m=member: m.ready or not m.alive, 60)  # type: ignore[misc]  # bound at once
        self.leader()

    # ------------------------------------------------------------ processes

    def spawn_scheduler(self, name: str, **environment: str) -> Member:
        """Start a scheduler (again), without waiting for it; it keeps its port."""
        return self._spawn(name, "scheduler", ("--instance-id", name), environment)

    def spawn_worker(self, name: str, *options: str, **environment: str) -> Member:
        """Start a worker (again), without waiting for it."""
        return self._spawn(name, "worker", (*self._as_worker(name), *options), environment)

    def spawn_namesake(self, worker: Member) -> Member:
        """Start a second worker under the id of one that runs; it is not one of `members`."""
        return self._guest(worker.name, f"{worker.name}-namesake", self._as_worker(worker.name))

    def spawn_guest(self, name: str, *options: str, **environment: str) -> Member:
        """Start a worker that is not one of `members`: nobody starts it again."""
        return self._guest(name, name, (*self._as_worker(name), *options), environment)

    def _guest(
        self, name: str, log: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Member:
        guest = self._start(name, "worker", log, free_port(), arguments, environment or {})
        self._guests.append(guest)
        return guest

    def _as_worker(self, name: str) -> tuple[str, ...]:
        slots = str(self.shape.slots)
        common = ("--id", name, "--app", self.shape.app, "--processes", "1", "--concurrency", slots)
        return (*common, "--queues", ",".join((*QUEUES, *self.shape.queues)))

    def _spawn(self, name: str, role: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Member:
        old = self.members.get(name)
        port = old.port if old is not None else free_port()
        member = self.members[name] = self._start(name, role, name, port, arguments, environment)
        self.note("start", name, pid=member.pid)
        return member

    def _start(
        self, name: str, role: str, log: str, port: int, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> Member:
        member = Member(name, role, port, self.folder / "logs" / f"{log}.log")
        member.start((role, *arguments, "--http-addr", f"127.0.0.1:{port}"), {**self.environment(name), **environment})
        return member

    def environment(self, name: str) -> dict[str, str]:
        """The environment of the process with this name: each link goes through a proxy of its own if any does."""
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("TASKD_", "POSTGRES_", "REDIS_", "ETCD_"))
        }
        ports = {link: self.link(name, link).port if self.shape.proxied else self._port(link) for link in LINKS}
        ours = {
            "POSTGRES_DSN": f"postgresql://taskd@127.0.0.1:{ports['postgres']}/taskd?sslmode=disable",
            "REDIS_URL": f"redis://127.0.0.1:{ports['redis']}",
            "ETCD_ENDPOINTS": f"127.0.0.1:{ports['etcd']}",
            "LOG_FORMAT": "JSON",
            "TORTURE_TRACE": str(self.history / "trace"),
            "TASKD_SERVER": ",".join(self.urls),
        }
        return {**inherited, **TIMINGS, **ours, **self.shape.environment}

    def link(self, name: str, link: str) -> Proxy:
        """The proxy between a process and a server."""
        if (name, link) not in self._proxies:
            self._proxies[name, link] = Proxy(self._port(link))
        return self._proxies[name, link]

    def _port(self, link: str) -> int:
        return self.server(link).port

    @property
    def urls(self) -> list[str]:
        """Each scheduler's address."""
        return [member.url for member in self.members.values() if member.role == "scheduler"]

    @property
    def schedulers(self) -> list[Member]:
        """The schedulers that run."""
        return [m for m in self.members.values() if m.role == "scheduler" and m.alive]

    @property
    def workers(self) -> list[Member]:
        """The workers that run."""
        return [m for m in self.members.values() if m.role == "worker" and m.alive]

    def leader(self, timeout: float = 30.0, *, among: Sequence[Member] | None = None, shard: int = SHARD) -> Member:
        """The scheduler that leads the queue `default`, or another shard, once there is exactly one."""

        def leading() -> Member | None:
            found = [s for s in (self.schedulers if among is None else among) if s.leads_shard(shard)]
            return found[0] if len(found) == 1 else None

        found = wait_until(leading, timeout)
        assert found is not None
        return found

    # ------------------------------------------------------------ load and faults

    def flow(self, seconds: float) -> None:
        """Let traffic flow; what time is to pass between faults is a part of the scenario."""
        time.sleep(seconds)

    def note(self, what: str, target: str, **fields: object) -> None:
        """Write a fault down."""
        if what in ("SIGKILL", "SIGTERM") and isinstance(pid := fields.get("pid"), int):
            self._ended.add(pid)
        self._faults.write(json.dumps({"at": time.time(), "what": what, "target": target, **fields}) + "\n")
        self._faults.flush()

    def kill(self, member: Member) -> None:
        """SIGKILL: gone within the call."""
        self.count_surprises()
        self.note("SIGKILL", member.name, pid=member.pid)
        member.kill()

    def terminate(self, member: Member, timeout: float = 60.0) -> float:
        """SIGTERM; the seconds until it ended."""
        began = time.monotonic()
        self.note("SIGTERM", member.name, pid=member.pid)
        pid, status = member.pid, member.terminate(timeout)
        self.note("exit", member.name, pid=pid, status=status)
        return time.monotonic() - began

    @contextmanager
    def frozen(self, member: Member, *, whole: bool = False) -> Iterator[None]:
        """SIGSTOP the process (with `whole`, its executors too), SIGCONT at the end.

        A worker's guard is left out: it is there to kill what stands still. If it stood still as well, nothing could keep the
        executors from running on for some milliseconds at the thaw, before it gets to kill them.
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
        """Note the beginning and the end of something that the body does; an outage that it mends ends with "restart"."""
        self.note(what, target)
        try:
            yield
        finally:
            self.note(end, target)
            self.healed_at = time.time()

    @contextmanager
    def standstill(self, name: str) -> Iterator[None]:
        """SIGSTOP a server, SIGCONT at the end. Every backend of PostgreSQL leads a group of its own: its whole tree stops."""
        pid = self.server(name).child.pid
        assert pid is not None
        with self.fault("SIGSTOP", name, "SIGCONT"):
            try:
                signal_all([pid], signal.SIGSTOP)  # from now on it makes no more children
                signal_all(descendants(pid), signal.SIGSTOP)
                yield
            finally:
                signal_all([*descendants(pid)[::-1], pid], signal.SIGCONT)

    def server(self, name: str) -> Server:
        """postgres, redis or etcd."""
        return {"postgres": self.postgres, "redis": self.redis, "etcd": self.etcd}[name]

    def healed(self) -> None:
        """From now on everything is whole."""
        self.healed_at = time.time()

    def revive(self) -> None:
        """Start again whatever died, without failpoints; what died by itself is a surprise."""
        self.count_surprises()
        for member in list(self.members.values()):
            if not member.alive:
                spawn = self.spawn_scheduler if member.role == "scheduler" else self.spawn_worker
                spawn(member.name, TASKD_FAILPOINT="")
        self.await_members()

    def count_surprises(self) -> None:
        """Write down who died by itself."""
        for member in self.members.values():
            if not member.alive and member.pid not in self._ended and not self._meant_to_die(member):
                self.surprises.append(f"{member.name} died by itself, with status {member.status}")
                self._ended.add(member.pid)

    def _meant_to_die(self, member: Member) -> bool:
        """True if a failpoint of the whole scenario killed it."""
        return member.status == -signal.SIGKILL and ":kill" in self.shape.environment.get("TASKD_FAILPOINT", "")

    def mend(self) -> None:
        """Make everything whole: links, servers, processes."""
        for proxy in self._proxies.values():
            proxy.heal()
        for server in (self.redis, self.etcd, self.postgres):
            if server.child.pid is None:
                server.start()
        self.revive()
        if not self.healed_at:
            self.healed()

    # ------------------------------------------------------------ jobs of the scenario's own

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """A request to the first scheduler that runs."""
        return web.request(method, f"{self.schedulers[0].url}{path}", json=body, timeout=10)

    def submit(self, task: str, payload: Any, **fields: Any) -> int:
        """Submit one job; its id."""
        answer = self.ask("POST", "/jobs", {"task": task, "payload": payload, **fields})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def job(self, job: int) -> dict[str, Any]:
        """One job, as the API shows it."""
        found: dict[str, Any] = self.ask("GET", f"/jobs/{job}").json()
        return found

    def cancel(self, job: int) -> None:
        """Cancel a job that is not final yet."""
        assert self.ask("POST", f"/jobs/{job}/cancel").status_code == 200

    def until(self, condition: Callable[[], Any], timeout: float = 30.0) -> Any:
        """The first true value of `condition`."""
        return wait_until(condition, timeout)


def waits_for_a_lock(world: World) -> bool:
    """True while a statement of the leader's waits for somebody's row lock."""
    with psycopg.connect(world.postgres.dsn) as connection:
        found = connection.execute(
            "SELECT FROM pg_stat_activity WHERE application_name LIKE 'taskd:leader:%' AND wait_event_type = 'Lock'"
        )
        return found.fetchone() is not None


def signal_all(pids: Sequence[int], number: int) -> None:
    """Signal those that still run."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _prefer(thread: int | None) -> None:
    """Give the load's thread the processor first, where we may.

    The client shares the machine with what it measures; one that waits for its own turn takes that for the answer's time.
    """
    if thread is not None and hasattr(os, "PRIO_PROCESS") and os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, thread, -10)
