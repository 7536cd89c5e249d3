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

#: Everything is on one machine, so silence means death soon: a cluster that was killed is led again in seconds.
LEADERSHIP = {("etcd", "ttl"): "3", ("scheduler", "leader_stale"): "3", ("scheduler", "leader_renew"): "1"}

#: A laptop's Ctrl-C should not wait for half a minute; whoever sets the variable decides otherwise.
WORKER_GRACE = 5.0


class ProcessSpec(msgspec.Struct, frozen=True):
    """`name` is its id, `port` where it listens; `places` are the settings that make it what it is."""

    name: str
    port: int
    command: tuple[str, ...]
    places: Mapping[Place, str]

    def program(
        self, servers: Mapping[Place, str], options: tuple[str, ...] = (), extra: Mapping[str, str] | None = None
    ) -> Program:
        """How to run it against `servers`, with these global options and `extra` variables in its environment."""
        return Program(
            argv=[sys.executable, "-m", "taskd", *options, *self.command],
            environment={**environment({**servers, **self.places, ("log", "format"): "JSON"}), **(extra or {})},
        )


def scheduler(name: str, port: int, leadership: Mapping[Place, str]) -> ProcessSpec:
    """A scheduler with its API on `port`; `leadership` are settings of its duties."""
    places = {("http", "addr"): f"{LOOPBACK}:{port}", ("scheduler", "instance_id"): name, **leadership}
    return ProcessSpec(name, port, ("scheduler", "--instance-id", name), places)


def configured_worker(options: Sequence[str] = ()) -> WorkerSettings:
    """Return what file and environment say of workers; `options` are global ones. Raises ConfigurationError."""
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
    """A worker; `settings` are keys of the section [worker], beside those that file and environment give."""
    port = free_port()
    places = {("worker", key): value for key, value in settings.items()}
    places |= {("worker", "id"): name, ("worker", "http_addr"): f"{LOOPBACK}:{port}"}
    if "TASKD_WORKER__GRACE" not in os.environ:
        places["worker", "grace"] = str(worker_grace(configured))
    return ProcessSpec(name, port, ("worker", "--id", name), places)


def environment(places: Mapping[Place, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`environ` with these settings, whatever other names it had for the same ones."""
    ours = {f"TASKD_{section}__{key}".upper(): value for (section, key), value in places.items()}
    shadowed = {*ours, *(name for name, place in ENVIRONMENT.items() if place in places)}
    kept = {name: value for name, value in environ.items() if name.upper().removesuffix("_FILE") not in shadowed}
    return kept | ours
