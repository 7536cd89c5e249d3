"""`taskd dev`: three servers, N schedulers and M workers as child processes, kept alive until the user stops them."""

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
from taskd.dev.restarter import Restarter, Say, supervise
from taskd.dev.servers import binaries
from taskd.dev.servers.fixed_ports import FixedPorts
from taskd.dev.servers.ports import is_free
from taskd.dev.servers.server import Server
from taskd.dev.servers.servers import Servers
from taskd.dev.stop_signals import StopAsked, StopSignals
from taskd.domain.errors import ConfigurationError
from taskd.store.migrations import apply_audit, migrate

LOOK_EVERY = 0.25


class DevCluster:
    """A running cluster. `with DevCluster(options, say):` enters when every part answers; its end leaves no process behind.

    1. End the leftovers of a killed predecessor. 2. Check folder, ports and programs before anything starts. 3. Start the
    servers, migrate, start schedulers and workers, and wait until they answer. 4. Start dead processes again. 5. Stop workers,
    then schedulers, then servers. While it runs, a file has its addresses for other commands.

    Raises TaskdError, StopAsked. Use it in the main thread: the children's lives and the signals are tied to it.
    """

    def __init__(self, options: DevOptions, say: Say) -> None:
        self.options = options
        self.folder = DataFolder(options.data)
        self._say = say
        self._signals = StopSignals()
        self._servers: Servers | None = None
        self._ports = FixedPorts(self.folder.path)
        app = options.worker.get("app") if options.schedules else None
        self._schedules = DeclaredSchedules(app, self.folder, say) if app else None
        self._server_restarters: dict[str, Restarter] = {}
        configured = process_spec.configured_worker(options.global_options)
        self.members = Members(
            [
                process_spec.scheduler(f"scheduler-{n + 1}", options.port + n, process_spec.LEADERSHIP)
                for n in range(options.schedulers)
            ],
            [process_spec.worker(name, options.worker, configured) for name in self.worker_names],
            folder=self.folder,
            signals=self._signals,
            say=self._forward,
            worker_grace=process_spec.worker_grace(configured),
        )
        self._begun = time.monotonic()
        self.start_seconds = 0.0

    @property
    def urls(self) -> list[str]:
        """Each scheduler's address."""
        return [f"http://localhost:{self.options.port + number}" for number in range(self.options.schedulers)]

    @property
    def servers(self) -> Servers:
        """The three servers. Only after the start."""
        assert self._servers is not None, "the cluster was not started"
        return self._servers

    @property
    def worker_names(self) -> list[str]:
        """The workers' ids."""
        return [f"worker-{number}" for number in range(1, self.options.workers + 1)]

    @property
    def restarters(self) -> dict[str, Restarter]:
        """The restarter of each process by name: servers by their titles, then schedulers and workers."""
        return {**self._server_restarters, **self.members.restarters}

    def __enter__(self) -> DevCluster:
        self.folder.take()
        self._signals.__enter__()
        try:
            for name in self.folder.end_leftovers():
                self._say(name, "a killed `taskd dev` had left it running; ended")
            self._require_ports()
            self._start()
            self._announce()
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
            self._signals.__exit__()
            self._ports.release()
            self.folder.release()

    def supervise(self, until: Callable[[], bool] = lambda: False, every: float = LOOK_EVERY) -> None:
        """Keep every process alive until `until`, called each `every` seconds, is true.

        Raises StopAsked when the user or the system ends the cluster.
        """
        supervise(self.restarters.values(), self._signals, lambda: self._check_schedules() or until(), every)

    def _check_schedules(self) -> bool:
        """Check the app's schedules; return False, so that supervision goes on."""
        if self._schedules is not None:
            self._schedules.check()
        return False

    def _forward(self, name: str, line: str) -> None:
        """Show the line of a scheduler or worker; after a reload, have the schedules applied again."""
        self._say(name, line)
        if self._schedules is not None and line.startswith("reloaded"):
            self._schedules.request()

    def _announce(self) -> None:
        """Write the file by which other commands find the cluster, and have the app's schedules applied."""
        pid = os.getpid()
        servers = self.servers
        running_cluster.write(
            self.folder.path,
            running_cluster.RunningCluster(
                pid=pid,
                identity=identity(pid) or "",
                schedulers=self.members.scheduler_ports,
                postgres=servers.postgres.port,
                redis=servers.redis.port,
                etcd=servers.etcd.port,
            ),
        )
        if self._schedules is not None:
            self._schedules.begin(",".join(self.urls), process_spec.environment(servers.settings()))

    # ---------------------------------------------------------------- starting

    def _require_ports(self) -> None:
        ports = range(self.options.port, self.options.port + self.options.schedulers)
        taken = [port for port in ports if not is_free(port)]
        if taken:
            raise ConfigurationError(
                f"port {taken[0]} is taken: stop the process that listens there, or choose others with"
                f" --port {ports[-1] + 10}"
            )

    def _start(self) -> None:
        if self.options.fresh:
            self.folder.empty()
        programs = binaries.find(
            binaries.Search(source=self.options.source, data_version=self.folder.postgres_version())
        )
        if self.options.fixed_ports:
            self._ports.choose()
            for name, line in self._ports.lines:
                self._say(name, line)
        self._servers = Servers(programs, self.folder.path, postgres=self.options.postgres, ports=self._ports.chosen)
        self._servers.start(pause=self._signals.pause)
        for server, interpret in (
            (self._servers.postgres, postgres_warning),
            (self._servers.redis, no_warning),
            (self._servers.etcd, etcd_warning),
        ):
            self._restart_on_death(server, interpret)
        applied = migrate(self._servers.settings()["postgres", "dsn"])
        if applied:
            self._say("PostgreSQL", f"schema made: {len(applied)} migration{'s' if len(applied) > 1 else ''} applied")
        if self.options.audit:
            apply_audit(self._servers.settings()["postgres", "dsn"])
        self.members.start(self._servers.settings(), self.options.global_options, self.options.environment)

    def _restart_on_death(self, server: Server, interpret: Interpreter) -> None:
        """Add a restarter for a server that runs already."""
        tail = Tail(server.child.log, interpret)
        self._server_restarters[server.title] = Restarter(server.title, server.child, server.launch, tail, self._say)

    # ---------------------------------------------------------------- stopping

    def _stop(self) -> None:
        """Stop workers, schedulers and servers; a second Ctrl-C kills the rest."""
        try:
            if self._schedules is not None:
                self._schedules.kill()
            self.members.stop()
            if self._servers is not None:
                self._servers.stop()
        except StopAsked:
            self._say("taskd dev", "killing the remaining processes")
        finally:
            self.members.kill()
            if self._servers is not None:
                self._servers.kill()
