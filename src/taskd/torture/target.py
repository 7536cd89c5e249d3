"""Where the torture takes place: a cluster of its own, or processes of its own in a cluster of the user's."""

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
from taskd.dev import restarter as keepers
from taskd.dev.cluster import DevCluster
from taskd.dev.folder import DataFolder
from taskd.dev.members import Members
from taskd.dev.options import DevOptions
from taskd.dev.process_spec import Place
from taskd.dev.restarter import Restarter, Say
from taskd.dev.servers.ports import LOOPBACK, free_port, free_range
from taskd.dev.stop_signals import StopAsked, StopSignals
from taskd.domain.errors import SchemaMismatch
from taskd.settings import Settings
from taskd.store.migrations import apply_audit, pending
from taskd.torture.faultlog import SERVERS
from taskd.torture.queues import queues

SCHEDULERS, WORKERS, SLOTS = 2, 3, 16
TASKS = "taskd.torture.tasks"
#: Warnings of the processes are expected while they are mistreated.
QUIET = ("--log-level", "ERROR")


class Target(Protocol):
    """What the rest sees of either kind. Use it in the main thread, as a Cluster."""

    @property
    def queues(self) -> Sequence[str]:
        """Where the jobs go."""

    @property
    def only(self) -> Sequence[str] | None:
        """The queues that are ours, or None if all are."""

    @property
    def members_by_role(self) -> Mapping[str, Sequence[str]]:
        """Names of schedulers and workers."""

    @property
    def servers(self) -> Sequence[str]:
        """The servers that may be mistreated: `postgres`, `redis`, `etcd`."""

    @property
    def logs(self) -> Path:
        """Where the processes' logs are."""

    @property
    def urls(self) -> list[str]:
        """Where to submit."""

    @property
    def members(self) -> list[str]:
        """Schedulers and workers."""

    @property
    def dsn(self) -> str:
        """PostgreSQL."""

    def redis(self) -> redis.Redis:
        """A new client."""

    def keeper(self, name: str) -> Restarter:
        """Who keeps this member or server alive."""

    def answers(self, name: str) -> bool:
        """True if this server answers."""

    def is_whole(self) -> bool:
        """True if everything of ours runs and answers."""

    def keep(self, until: Callable[[], bool], every: float) -> None:
        """Keep everything alive until `until` is true. Raises StopAsked."""


class OwnCluster:
    """A cluster as `taskd dev` makes it, whose servers are mistreated too."""

    only = None

    def __init__(self, cluster: DevCluster, queues: Sequence[str]) -> None:
        self._cluster = cluster
        self.queues = queues
        names = [f"scheduler-{number + 1}" for number in range(cluster.plan.schedulers)]
        self.members_by_role = {"scheduler": names, "worker": cluster.worker_names}
        self.members = [*names, *cluster.worker_names]
        self.servers = tuple(SERVERS)
        self.logs = cluster.folder.logs
        self.urls = [f"http://{LOOPBACK}:{cluster.plan.port + number}" for number in range(cluster.plan.schedulers)]
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

    def keeper(self, name: str) -> Restarter:
        return self._cluster.keepers[SERVERS.get(name, name)]

    def answers(self, name: str) -> bool:
        return self.keeper(name).child.pid is not None and self._by_name[name].probe() is None

    def is_whole(self) -> bool:
        return all(self.answers(name) for name in self.servers) and not self._cluster.crew.missing()

    def keep(self, until: Callable[[], bool], every: float) -> None:
        self._cluster.keep(until, every)


class UserCluster:
    """Schedulers and workers of our own in the cluster that the settings name. Its servers are left alone."""

    servers = ()

    def __init__(
        self, settings: Settings, crew: Members, bell: StopSignals, *, name: str, queues: Sequence[str], logs: Path
    ) -> None:
        self._settings = settings
        self._crew = crew
        self._bell = bell
        self.queues = self.only = queues
        self.logs = logs
        self.members_by_role = {"scheduler": _named(name, "scheduler"), "worker": _named(name, "worker")}
        self.members = [name for names in self.members_by_role.values() for name in names]
        self.dsn = settings.postgres.dsn

    @property
    def urls(self) -> list[str]:
        return [f"http://{LOOPBACK}:{port}" for port in self._crew.scheduler_ports]

    def redis(self) -> redis.Redis:
        url = self._settings.redis.url
        return redis.Redis.from_url(
            url if "://" in url else f"redis://{url}",
            socket_timeout=2,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 0),
        )

    def keeper(self, name: str) -> Restarter:
        return self._crew.keepers[name]

    def answers(self, name: str) -> bool:
        raise AssertionError(f"{name} is not ours")

    def is_whole(self) -> bool:
        return not self._crew.missing()

    def keep(self, until: Callable[[], bool], every: float) -> None:
        keepers.keep(self._crew.keepers.values(), self._bell, until, every)


@contextmanager
def own(shards: int, data: Path, trace: Path, say: Say) -> Iterator[Target]:
    """A cluster of three servers, schedulers and workers below `data`. Raises TaskdError, StopAsked."""
    served = queues("torture", shards)
    plan = DevOptions(
        data=data,
        port=free_range(SCHEDULERS),
        schedulers=SCHEDULERS,
        workers=WORKERS,
        worker=_worker(served),
        options=QUIET,
        environment={"TORTURE_TRACE": str(trace), "TASKD_SCHEDULER__SHARDS": str(shards)},
        postgres={"track_commit_timestamp": "on"},
        audit=True,
    )
    with DevCluster(plan, say) as cluster:
        yield OwnCluster(cluster, served)


@contextmanager
def given(
    settings: Settings, options: tuple[str, ...], name: str, data: Path, trace: Path, say: Say
) -> Iterator[Target]:
    """Schedulers and workers beside those of the user's, for queues that begin with `name`. Raises TaskdError, StopAsked."""
    if missing := pending(settings.postgres.dsn, pooled=settings.postgres.pooled):
        raise SchemaMismatch(f"the schema is not up to date ({missing[0]} is missing): run taskd migrate first")
    apply_audit(settings.postgres.dsn)
    folder, bell, served = DataFolder(data), StopSignals(), queues(name, settings.scheduler.shards)
    crew = Members(
        [process_spec.scheduler(one, free_port(), {}) for one in _named(name, "scheduler")],
        [process_spec.worker(one, _worker(served), settings.worker) for one in _named(name, "worker")],
        folder=folder,
        bell=bell,
        say=say,
        worker_grace=process_spec.worker_grace(settings.worker),
        alone=False,
    )
    folder.take()
    try:
        with bell:
            try:
                crew.start(_places(settings), (*options, *QUIET), {"TORTURE_TRACE": str(trace)})
                yield UserCluster(settings, crew, bell, name=name, queues=served, logs=folder.logs)
            finally:
                _end(crew)
    finally:
        folder.release()


def _end(crew: Members) -> None:
    try:
        crew.stop()
    except StopAsked:
        pass  # a second Ctrl-C: what is left is killed
    finally:
        crew.kill()


def _named(name: str, part: str) -> list[str]:
    count = SCHEDULERS if part == "scheduler" else WORKERS
    return [f"{name}-{part}-{number + 1}" for number in range(count)]


def _worker(served: Sequence[str]) -> dict[str, str]:
    return {"app": TASKS, "queues": ",".join(served), "concurrency": str(SLOTS), "processes": "1"}


def _places(settings: Settings) -> dict[Place, str]:
    """Where the servers are, for the processes and for tasks that look for themselves."""
    sections = ("postgres", "redis", "etcd")
    found = msgspec.to_builtins(settings)
    return {(section, key): str(value) for section in sections for key, value in found[section].items()}
