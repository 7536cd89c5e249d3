"""`taskd dev`: a whole real cluster on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from taskd.cli import options, output
from taskd.dev.options import DevOptions
from taskd.runtime import stdio


class ServerSource(StrEnum):
    """Where the three servers' programs come from."""

    AUTO = "auto"
    EMBEDDED = "embedded"
    SYSTEM = "system"


def dev(
    context: typer.Context,
    schedulers: Annotated[int, typer.Option(min=1, max=16, help="How many schedulers.")] = 1,
    workers: Annotated[int, typer.Option(min=0, max=64, help="How many workers.")] = 1,
    app: Annotated[
        str, typer.Option(metavar="MODULE[:ATTR]", help="The workers' tasks; without it the built-in ones.")
    ] = "",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="The first scheduler's port; the others count up.")
    ] = 8080,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Where data and logs are kept between runs.")] = Path(
        ".taskd"
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin with an empty data folder.")] = False,
    servers: Annotated[
        ServerSource, typer.Option(help="PostgreSQL, Redis and etcd from wheels, from the system, or what is found.")
    ] = ServerSource.AUTO,
    queues: Annotated[str | None, typer.Option(help="The queues that the workers serve, comma-separated.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Slots of each worker.")] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Let the workers take up changes of the app's code while they run.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(min=0, help="Executor processes of each worker; 0: by cores.")
    ] = None,
    env: Annotated[
        bool, typer.Option("--env", help="Only print the shell's variables for the cluster that runs in --data.")
    ] = False,
) -> None:
    """Run a whole real cluster on this machine, without Docker.

    PostgreSQL, Redis, etcd, schedulers and workers are processes of their own. What dies is started again. Ctrl-C
    ends everything and keeps the data for the next run. While it runs, other commands in this folder find it by
    themselves; elsewhere: eval "$(taskd dev --env --data DIR)".

    Example: taskd dev --schedulers 2 --workers 2 --app shop.tasks
    """
    if env:
        _print_environment(data)
        return
    asked = context.find_object(options.Global) or options.Global()
    given = {
        "app": app or None,
        "queues": queues,
        "concurrency": concurrency,
        "processes": processes,
        "reload": reload or None,
    }
    plan = DevOptions(
        data=data,
        port=port,
        schedulers=schedulers,
        workers=workers,
        worker={key: str(value) for key, value in given.items() if value is not None},
        fresh=fresh,
        source=servers.value,
        options=_handed_on(asked),
        fixed_ports=True,
        schedules=True,
    )
    from taskd.dev import foreground  # noqa: PLC0415  only this command needs the servers' clients: half a second

    stdio.steady()  # the cluster outlives the reader of these lines
    foreground.run(plan)


def _print_environment(data: Path) -> None:
    """Print an `export` of the variables of the running cluster. Raises ConfigurationError if none runs."""
    import shlex  # noqa: PLC0415  only for this option

    from taskd.dev import running_cluster  # noqa: PLC0415  as above

    variables = running_cluster.require(data).variables
    output.tell("export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items()))


def _handed_on(asked: options.Global) -> tuple[str, ...]:
    """The global options for every process. The format is ours: the supervisor reads the logs."""
    given = {"--config": asked.config and str(asked.config), "--log-level": asked.log_level}
    return tuple(part for name, value in given.items() if value for part in (name, value))
