"""The processes of a scenario: servers, schedulers and workers, with a proxy for each link, and a record of faults."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from taskd.dev.servers import binaries
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.ports import free_port
from taskd.dev.servers.postgres import PostgresServer
from taskd.dev.servers.server import Server
from taskd.dev.servers.valkey import RedisServer
from tests.chaos.disk import SmallDisk
from tests.chaos.member import Member
from tests.chaos.proxy import Proxy
from tests.chaos.shape import LINKS, QUEUES, SHARD, TIMINGS, Shape
from tests.servers import wait_until


class ChaosCluster:
    """Servers, schedulers and workers as real processes under `folder`."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.folder, self.shape = folder, shape
        self.history = folder / "history"
        self.history.mkdir(parents=True)
        self.members: dict[str, Member] = {}
        self._guests: list[Member] = []
        #: Pids that a fault has ended.
        self._ended: set[int] = set()
        self._proxies: dict[tuple[str, str], Proxy] = {}
        self._faults = (self.history / "faults.ndjson").open("a")
        self.disk = SmallDisk(folder / "disk", shape.disk) if shape.disk else None
        programs = binaries.find()
        logs = folder / "logs"
        self.postgres = PostgresServer(
            programs.postgres,
            (folder / "disk" if shape.disk else folder) / "postgres",
            log=logs / "postgres.log",
            settings={"track_commit_timestamp": "on", **shape.postgres},
        )
        self.redis = RedisServer(
            programs.redis, folder / "redis", log=logs / "redis.log", durable=False, settings=dict(shape.redis)
        )
        self.etcd = EtcdServer(programs.etcd, folder / "etcd", log=logs / "etcd.log")

    def note(self, what: str, target: str, **fields: object) -> None:
        """Record a fault in faults.ndjson."""
        if what in ("SIGKILL", "SIGTERM") and isinstance(pid := fields.get("pid"), int):
            self._ended.add(pid)
        self._faults.write(json.dumps({"at": time.time(), "what": what, "target": target, **fields}) + "\n")
        self._faults.flush()

    def await_members(self) -> None:
        """Return when every running process is ready and one scheduler leads."""
        for member in self.members.values():
            if member.alive:
                wait_until(lambda m=member: m.ready or not m.alive, 60)  # type: ignore[misc]  # bound at once
        self.leader()

    def spawn_scheduler(self, name: str, **environment: str) -> Member:
        """Start a scheduler, for the first time or again, without waiting for it; it keeps its port."""
        return self._spawn(name, "scheduler", ("--instance-id", name), environment)

    def spawn_worker(self, name: str, *options: str, **environment: str) -> Member:
        """Start a worker, for the first time or again, without waiting for it."""
        return self._spawn(name, "worker", (*self._as_worker(name), *options), environment)

    def spawn_namesake(self, worker: Member) -> Member:
        """Start a second worker with the id of a running one; it is not one of `members`."""
        return self._guest(worker.name, f"{worker.name}-namesake", self._as_worker(worker.name))

    def spawn_guest(self, name: str, *options: str, **environment: str) -> Member:
        """Start a worker that is not one of `members`, so that `revive` does not start it again."""
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
        """Return the environment of a process, with its own proxies' ports if the links are proxied."""
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("TASKD_", "POSTGRES_", "REDIS_", "ETCD_"))
        }
        ports = {link: self.link(name, link).port if self.shape.proxied else self._port(link) for link in LINKS}
        cluster = {
            "POSTGRES_DSN": f"postgresql://taskd@127.0.0.1:{ports['postgres']}/taskd?sslmode=disable",
            "REDIS_URL": f"redis://127.0.0.1:{ports['redis']}",
            "ETCD_ENDPOINTS": f"127.0.0.1:{ports['etcd']}",
            "LOG_FORMAT": "JSON",
            "TORTURE_TRACE": str(self.history / "trace"),
            "TASKD_SERVER": ",".join(self.urls),
        }
        return {**inherited, **TIMINGS, **cluster, **self.shape.environment}

    def link(self, name: str, link: str) -> Proxy:
        """Return the proxy between a process and a server."""
        if (name, link) not in self._proxies:
            self._proxies[name, link] = Proxy(self._port(link))
        return self._proxies[name, link]

    def _port(self, link: str) -> int:
        return self.server(link).port

    @property
    def urls(self) -> list[str]:
        """Addresses of all schedulers."""
        return [member.url for member in self.members.values() if member.role == "scheduler"]

    @property
    def schedulers(self) -> list[Member]:
        """Schedulers that run."""
        return [m for m in self.members.values() if m.role == "scheduler" and m.alive]

    @property
    def workers(self) -> list[Member]:
        """Workers that run."""
        return [m for m in self.members.values() if m.role == "worker" and m.alive]

    def leader(self, timeout: float = 30.0, *, among: Sequence[Member] | None = None, shard: int = SHARD) -> Member:
        """Return the scheduler that leads `shard`, as soon as there is exactly one; by default the shard of queue `default`."""

        def leading() -> Member | None:
            leaders = [s for s in (self.schedulers if among is None else among) if s.leads_shard(shard)]
            return leaders[0] if len(leaders) == 1 else None

        leader = wait_until(leading, timeout)
        assert leader is not None
        return leader

    def server(self, name: str) -> Server:
        """Return the server named postgres, redis or etcd."""
        return {"postgres": self.postgres, "redis": self.redis, "etcd": self.etcd}[name]
