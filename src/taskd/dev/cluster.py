"""`taskd dev`: three servers, N schedulers and M workers, each a process of its own, kept alive until the user has enough."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from taskd.dev import process_spec, running_cluster
from taskd.dev.declared import DeclaredSchedules
from taskd.dev.folder import DataFolder
from taskd.dev.logs import Interpreter, Tail, etcd_warning, no_warning, postgres_warning
from taskd.dev.members import Members
from taskd.dev.options import DevOptions
from taskd.dev.process import identity
from taskd.dev.restarter import Restarter, Say, keep
from taskd.dev.servers import binaries
from taskd.dev.servers.fixed_ports import FixedPorts
from taskd.dev.servers.ports import is_free
from taskd.dev.servers.servers import Server, Servers
from taskd.dev.stop_signals import StopAsked, StopSignals
from taskd.domain.errors import ConfigurationError
from taskd.store.migrations import apply_audit, migrate

LOOK_EVERY = 0.25


class DevCluster:
    """A running cluster. `with Cluster(plan, say) as cluster:` returns when everything answers and ends without a trace.

    Duties: 1. end what a killed predecessor left; 2. refuse what cannot work (folder, ports, binaries) before anything
    starts; 3. start servers, migrate, start schedulers and workers, wait until they answer; 4. start again what dies; 5. stop
    workers, then schedulers, then servers; 6. while it runs, tell other commands where it is.

    Raises TaskdError, StopAsked. Use it in the main thread: the children's lives are tied to it, and so are signals.
    """

    def __init__(self, plan: DevOptions, say: Say) -> None:
        self.plan = plan
        self.folder = DataFolder(plan.data)
        self._say = say
        self._bell = StopSignals()
        self._servers: Servers | None = None
        self._ports = FixedPorts(self.folder.path)
        app = plan.worker.get("app") if plan.schedules else None
        self._schedules = DeclaredSchedules(app, self.folder, say) if app else None
        self._server_keepers: dict[str, Restarter] = {}
        configured = process_spec.configured_worker(plan.options)
        self.crew = Members(
            [
                process_spec.scheduler(f"scheduler-{n + 1}", plan.port + n, process_spec.LEADERSHIP)
                for n in range(plan.schedulers)
            ],
            [process_spec.worker(name, plan.worker, configured) for name in self.worker_names],
            folder=self.folder,
            bell=self._bell,
            say=self._heard,
            worker_grace=process_spec.worker_grace(configured),
        )
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

    @property
    def keepers(self) -> dict[str, Restarter]:
        """Who keeps what alive, by name: servers by their titles, then schedulers and workers."""
        return {**self._server_keepers, **self.crew.keepers}

    def __enter__(self) -> DevCluster:
        self.folder.take()
        self._bell.__enter__()
        try:
            for name in self.folder.end_leftovers():
                self._say(name, "was left running by a killed `taskd dev`; ended")
            self._require_ports()
            self._start()
            self._show()
            self.start_seconds = time.monotonic() - self._begun
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        running_cluster.forget(self.folder.path)
        try:
            self._stop()
        finally:
            self._bell.__exit__()
            self._ports.release()
            self.folder.release()

    def keep(self, until: Callable[[], bool] = lambda: False, every: float = LOOK_EVERY) -> None:
        """Keep everything alive until `until`, asked each `every` seconds, is true.

        Raises StopAsked when the user or the system ends the cluster.
        """
        keep(self.keepers.values(), self._bell, lambda: self._look() or until(), every)

    def _look(self) -> bool:
        """Look after the schedules; False."""
        if self._schedules is not None:
            self._schedules.look()
        return False

    def _heard(self, name: str, line: str) -> None:
        """Pass on the line of a scheduler or worker."""
        self._say(name, line)
        if self._schedules is not None and line.startswith("reloaded"):
            self._schedules.again()

    def _show(self) -> None:
        """Tell other commands where the cluster is, and let the app's schedules be applied."""
        here = os.getpid()
        servers = self.servers
        running_cluster.write(
            self.folder.path,
            running_cluster.RunningCluster(
                pid=here,
                identity=identity(here) or "",
                schedulers=self.crew.scheduler_ports,
                postgres=servers.postgres.port,
                redis=servers.redis.port,
                etcd=servers.etcd.port,
            ),
        )
        if self._schedules is not None:
            self._schedules.begin(",".join(self.urls), process_spec.environment(servers.settings()))

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
        if self.plan.fixed_ports:
            self._ports.choose()
            for name, line in self._ports.lines:
                self._say(name, line)
        self._servers = Servers(found, self.folder.path, postgres=self.plan.postgres, ports=self._ports.chosen)
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
        if self.plan.audit:
            apply_audit(self._servers.settings()["postgres", "dsn"])
        self.crew.start(self._servers.settings(), self.plan.options, self.plan.environment)

    def _adopt(self, server: Server, interpret: Interpreter) -> None:
        """Keep a server that runs already."""
        tail = Tail(server.child.log, interpret)
        self._server_keepers[server.title] = Restarter(server.title, server.child, server.launch, tail, self._say)

    # ---------------------------------------------------------------- stopping

    def _stop(self) -> None:
        """Workers, schedulers, servers; a second Ctrl-C kills what is left."""
        try:
            if self._schedules is not None:
                self._schedules.kill()
            self.crew.stop()
            if self._servers is not None:
                self._servers.stop()
        except StopAsked:
            self._say("taskd dev", "killing what is left")
        finally:
            self.crew.kill()
            if self._servers is not None:
                self._servers.kill()
