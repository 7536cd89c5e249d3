"""`taskd dev`: runs a whole real cluster on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from taskd.cli import options, output
from taskd.dev.options import DevOptions
from taskd.runtime import stdio


class ServerSource(StrEnum):
    """The origin of the three servers' programs."""

    AUTO = "auto"
    EMBEDDED = "embedded"
    SYSTEM = "system"


SchedulersOption = Annotated[int, typer.Option(min=1, max=16, help="How many schedulers.")]
WorkersOption = Annotated[int, typer.Option(min=0, max=64, help="How many workers.")]
AppOption = Annotated[
    str, typer.Option(metavar="MODULE[:ATTR]", help="The workers' tasks. Default: the built-in tasks.")
]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="The first scheduler's port; the others count up.")]
DataOption = Annotated[Path, typer.Option(metavar="DIR", help="The folder of data and logs, kept between runs.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Begin with an empty data folder.")]
ServersOption = Annotated[
    ServerSource,
    typer.Option(help="PostgreSQL, Redis and etcd from wheels (embedded), from the system, or either (auto)."),
]
QueuesOption = Annotated[str | None, typer.Option(help="The queues that the workers serve, comma-separated.")]
ConcurrencyOption = Annotated[int | None, typer.Option(min=1, help="Slots of each worker.")]
ReloadOption = Annotated[
    bool, typer.Option("--reload", help="Let the workers apply changes of the app's code while they run.")
]
ProcessesOption = Annotated[int | None, typer.Option(min=0, help="Executor processes of each worker; 0: by cores.")]
EnvOption = Annotated[
    bool, typer.Option("--env", help="Only print the shell's variables for the cluster that runs in --data.")
]


def dev(
    context: typer.Context,
    schedulers: SchedulersOption = 1,
    workers: WorkersOption = 1,
    app: AppOption = "",
    port: PortOption = 8080,
    data: DataOption = Path(".taskd"),
    fresh: FreshOption = False,
    servers: ServersOption = ServerSource.AUTO,
    queues: QueuesOption = None,
    concurrency: ConcurrencyOption = None,
    reload: ReloadOption = False,
    processes: ProcessesOption = None,
    env: EnvOption = False,
) -> None:
    """Run a whole real cluster on this machine, without Docker.

    PostgreSQL, Redis, etcd, schedulers and workers are processes of their own. A process that dies is started again.
    Ctrl-C ends everything and keeps the data for the next run. While it runs, other commands in this folder find it
    by themselves; elsewhere: eval "$(taskd dev --env --data DIR)".

    Example: taskd dev --schedulers 2 --workers 2 --app shop.tasks
    """
    if env:
        _print_environment(data)
        return
    worker = {"app": app or None, "queues": queues, "concurrency": concurrency, "processes": processes}
    settings = {key: str(value) for key, value in {**worker, "reload": reload or None}.items() if value is not None}
    cluster = DevOptions(
        data=data, port=port, schedulers=schedulers, workers=workers, worker=settings, fresh=fresh, source=servers.value
    )
    _run(cluster, context.find_object(options.Global) or options.Global())


def _run(cluster: DevOptions, given: options.Global) -> None:
    import msgspec  # noqa: PLC0415  keeps --help quick

    from taskd.dev import foreground  # noqa: PLC0415  only this command needs the servers' clients: half a second

    stdio.steady()  # the cluster outlives the reader of these lines
    foreground.run(msgspec.structs.replace(cluster, global_options=_passed_on(given), fixed_ports=True, schedules=True))


def _print_environment(data: Path) -> None:
    """Print an `export` of the running cluster's variables. Raises ConfigurationError if none runs."""
    import shlex  # noqa: PLC0415  for --env alone

    from taskd.dev import running_cluster  # noqa: PLC0415  as above

    variables = running_cluster.require(data).variables
    output.write_line("export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items()))


def _passed_on(given: options.Global) -> tuple[str, ...]:
    """Return the global options for every process, without the log format: the supervisor reads the logs as JSON."""
    passed = {"--config": given.config and str(given.config), "--log-level": given.log_level}
    return tuple(part for name, value in passed.items() if value for part in (name, value))
