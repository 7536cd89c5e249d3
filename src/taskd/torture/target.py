"""The target of a run: a private cluster, or the run's own processes in a cluster of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from taskd.dev import process_spec
from taskd.dev.cluster import DevCluster
from taskd.dev.folder import DataFolder
from taskd.dev.members import Members
from taskd.dev.options import DevOptions
from taskd.dev.process_spec import Place
from taskd.dev.restarter import Restarter, Say, supervise
from taskd.dev.servers.ports import LOOPBACK, free_port, free_range
from taskd.dev.stop_signals import StopAsked, StopSignals
from taskd.domain.errors import SchemaMismatch
from taskd.settings import Settings
from taskd.store.migrations import apply_audit, pending
from taskd.torture.faultlog import SERVERS
from taskd.torture.queues import queues

SCHEDULERS, WORKERS, SLOTS = 2, 3, 16
TASKS = "taskd.torture.tasks"
#: Warnings of the processes are expected during faults.
QUIET = ("--log-level", "ERROR")


class Target(Protocol):
    """The common interface of both kinds. Use it in the main thread, as a DevCluster."""

    @property
    def queues(self) -> Sequence[str]:
        """The queues of the load."""

    @property
    def only(self) -> Sequence[str] | None:
        """The queues that belong to the run; None if all do."""

    @property
    def members_by_role(self) -> Mapping[str, Sequence[str]]:
        """The names of the schedulers and of the workers."""

    @property
    def servers(self) -> Sequence[str]:
        """The servers that faults may hit: `postgres`, `redis`, `etcd`."""

    @property
    def logs(self) -> Path:
        """The folder of the processes' logs."""

    @property
    def urls(self) -> list[str]:
        """The addresses of the schedulers' APIs."""

    @property
    def members(self) -> list[str]:
        """The names of all schedulers and workers."""

    @property
    def dsn(self) -> str:
        """The connection string of PostgreSQL."""

    def redis(self) -> redis.Redis:
        """Return a new client for Redis."""

    def restarter(self, name: str) -> Restarter:
        """Return the restarter of this member or server."""

    def answers(self, name: str) -> bool:
        """Return True if this server answers."""

    def is_whole(self) -> bool:
        """Return True if all members, and the private cluster's servers, run and answer."""

    def supervise(self, until: Callable[[], bool], every: float) -> None:
        """Keep every process alive until `until`, called each `every` seconds, is true. Raises StopAsked."""


class OwnCluster:
    """A private cluster as `taskd dev` makes it. Faults hit its servers too."""

    only = None

    def __init__(self, cluster: DevCluster, queues: Sequence[str]) -> None:
        self._cluster = cluster
        self.queues = queues
        names = [f"scheduler-{number + 1}" for number in range(cluster.options.schedulers)]
        self.members_by_role = {"scheduler": names, "worker": cluster.worker_names}
        self.members = [*names, *cluster.worker_names]
        self.servers = tuple(SERVERS)
        self.logs = cluster.folder.logs
        self.urls = [
            f"http://{LOOPBACK}:{cluster.options.port + number}" for number in range(cluster.options.schedulers)
        ]
        self._by_name = {
            "postgres": cluster.servers.postgres,
            "redis": cluster.servers.redis,
            "etcd": cluster.servers.etcd,
        }

    @property
    def dsn(self) -> str:
        return self._cluster.servers.settings()["postgres", "dsn"]

    def redis(self) -> redis.Redis:
        return self._cluster.servers.redis.connect()

    def restarter(self, name: str) -> Restarter:
        return self._cluster.restarters[SERVERS.get(name, name)]

    def answers(self, name: str) -> bool:
        return self.restarter(name).child.pid is not None and self._by_name[name].probe() is None

    def is_whole(self) -> bool:
        return all(self.answers(name) for name in self.servers) and not self._cluster.members.missing()

    def supervise(self, until: Callable[[], bool], every: float) -> None:
        self._cluster.supervise(until, every)


class UserCluster:
    """The run's own schedulers and workers in the cluster that the settings name. Faults do not hit its servers."""

    servers = ()

    def __init__(
        self,
        settings: Settings,
        processes: Members,
        signals: StopSignals,
        *,
        name: str,
        queues: Sequence[str],
        logs: Path,
    ) -> None:
        self._settings = settings
        self._processes = processes
        self._signals = signals
        self.queues = self.only = queues
        self.logs = logs
        self.members_by_role = {"scheduler": _named(name, "scheduler"), "worker": _named(name, "worker")}
        self.members = [name for names in self.members_by_role.values() for name in names]
        self.dsn = settings.postgres.dsn

    @property
    def urls(self) -> list[str]:
        return [f"http://{LOOPBACK}:{port}" for port in self._processes.scheduler_ports]

    def redis(self) -> redis.Redis:
        url = self._settings.redis.url
        return redis.Redis.from_url(
            url if "://" in url else f"redis://{url}",
            socket_timeout=2,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 0),
        )

    def restarter(self, name: str) -> Restarter:
        return self._processes.restarters[name]

    def answers(self, name: str) -> bool:
        raise AssertionError(f"{name} is a server of the user's")

    def is_whole(self) -> bool:
        return not self._processes.missing()

    def supervise(self, until: Callable[[], bool], every: float) -> None:
        supervise(self._processes.restarters.values(), self._signals, until, every)


@contextmanager
def own_cluster(shards: int, data: Path, trace: Path, say: Say) -> Iterator[Target]:
    """Run a private cluster with its data in `data`. Raises TaskdError, StopAsked."""
    served = queues("torture", shards)
    options = DevOptions(
        data=data,
        port=free_range(SCHEDULERS),
        schedulers=SCHEDULERS,
        workers=WORKERS,
        worker=_worker(served),
        global_options=QUIET,
        environment={"TORTURE_TRACE": str(trace), "TASKD_SCHEDULER__SHARDS": str(shards)},
        postgres={"track_commit_timestamp": "on"},
        audit=True,
    )
    with DevCluster(options, say) as cluster:
        yield OwnCluster(cluster, served)


@contextmanager
def user_cluster(
    settings: Settings, options: tuple[str, ...], name: str, data: Path, trace: Path, say: Say
) -> Iterator[Target]:
    """Run schedulers and workers beside the user's, for queues that begin with `name`. Raises TaskdError, StopAsked."""
    if missing := pending(settings.postgres.dsn, pooled=settings.postgres.pooled):
        raise SchemaMismatch(f"the schema is not up to date ({missing[0]} is missing): run taskd migrate first")
    apply_audit(settings.postgres.dsn)
    folder, signals, served = DataFolder(data), StopSignals(), queues(name, settings.scheduler.shards)
    processes = Members(
        [process_spec.scheduler(member, free_port(), {}) for member in _named(name, "scheduler")],
        [process_spec.worker(member, _worker(served), settings.worker) for member in _named(name, "worker")],
        folder=folder,
        signals=signals,
        say=say,
        worker_grace=process_spec.worker_grace(settings.worker),
        alone=False,
    )
    folder.take()
    try:
        with signals:
            try:
                processes.start(_places(settings), (*options, *QUIET), {"TORTURE_TRACE": str(trace)})
                yield UserCluster(settings, processes, signals, name=name, queues=served, logs=folder.logs)
            finally:
                _end(processes)
    finally:
        folder.release()


def _end(processes: Members) -> None:
    try:
        processes.stop()
    except StopAsked:
        pass  # a second Ctrl-C: the rest is killed
    finally:
        processes.kill()


def _named(name: str, part: str) -> list[str]:
    count = SCHEDULERS if part == "scheduler" else WORKERS
    return [f"{name}-{part}-{number + 1}" for number in range(count)]


def _worker(served: Sequence[str]) -> dict[str, str]:
    return {"app": TASKS, "queues": ",".join(served), "concurrency": str(SLOTS), "processes": "1"}


def _places(settings: Settings) -> dict[Place, str]:
    """Return the settings of the servers, for the processes and for tasks that connect on their own."""
    sections = ("postgres", "redis", "etcd")
    values = msgspec.to_builtins(settings)
    return {(section, key): str(value) for section in sections for key, value in values[section].items()}
