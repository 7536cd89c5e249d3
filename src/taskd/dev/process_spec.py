"""The taskd processes of the cluster: each scheduler and worker is one `python -m taskd` of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from taskd.dev.child_process import Program
from taskd.dev.servers.ports import LOOPBACK, free_port
from taskd.settings import ENVIRONMENT, WorkerSettings, load

Place = tuple[str, str]

#: All processes are on one machine, so short timeouts are safe: after a kill, a new leader takes over in seconds.
LEADERSHIP = {("etcd", "ttl"): "3", ("scheduler", "leader_stale"): "3", ("scheduler", "leader_renew"): "1"}

#: Ctrl-C on a laptop should not wait for half a minute. The variable TASKD_WORKER__GRACE overrides this.
WORKER_GRACE = 5.0


class ProcessSpec(msgspec.Struct, frozen=True):
    """One scheduler or worker. `name` is its id, `port` is where it listens; `places` are its own settings."""

    name: str
    port: int
    command: tuple[str, ...]
    places: Mapping[Place, str]

    def program(
        self, servers: Mapping[Place, str], options: tuple[str, ...] = (), extra: Mapping[str, str] | None = None
    ) -> Program:
        """Return the program, against `servers`, with these global options and `extra` environment variables."""
        return Program(
            argv=[sys.executable, "-m", "taskd", *options, *self.command],
            environment={**environment({**servers, **self.places, ("log", "format"): "JSON"}), **(extra or {})},
        )


def scheduler(name: str, port: int, leadership: Mapping[Place, str]) -> ProcessSpec:
    """Return a scheduler with its API on `port`; `leadership` are settings of its duties."""
    places = {("http", "addr"): f"{LOOPBACK}:{port}", ("scheduler", "instance_id"): name, **leadership}
    return ProcessSpec(name, port, ("scheduler", "--instance-id", name), places)


def configured_worker(options: Sequence[str] = ()) -> WorkerSettings:
    """Return the worker settings of file and environment; `options` are global ones. Raises ConfigurationError."""
    named = next((value for name, value in pairwise(options) if name == "--config"), None)
    # Variables of other parts are not read: those of the servers may be secrets that a dev cluster does without.
    environ = {name: value for name, value in os.environ.items() if name.startswith("TASKD_WORKER__")}
    return load(file=Path(named) if named is not None else None, environ=environ, related=False).worker


def worker_grace(configured: WorkerSettings) -> float:
    """Return the `grace` of this module's workers, which is never less than their `stop_grace`."""
    if "TASKD_WORKER__GRACE" in os.environ:
        return configured.grace
    return max(WORKER_GRACE, configured.stop_grace)


def worker(name: str, settings: Mapping[str, str], configured: WorkerSettings) -> ProcessSpec:
    """Return a worker; `settings` are keys of the section [worker], beside those of file and environment."""
    port = free_port()
    places = {("worker", key): value for key, value in settings.items()}
    places |= {("worker", "id"): name, ("worker", "http_addr"): f"{LOOPBACK}:{port}"}
    if "TASKD_WORKER__GRACE" not in os.environ:
        places["worker", "grace"] = str(worker_grace(configured))
    return ProcessSpec(name, port, ("worker", "--id", name), places)


def environment(places: Mapping[Place, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return `environ` with these settings, and without its other variables for the same settings."""
    variables = {f"TASKD_{section}__{key}".upper(): value for (section, key), value in places.items()}
    shadowed = {*variables, *(name for name, place in ENVIRONMENT.items() if place in places)}
    kept = {name: value for name, value in environ.items() if name.upper().removesuffix("_FILE") not in shadowed}
    return kept | variables
