"""`taskd worker`: one worker in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from taskd.cli import options


def worker(
    context: typer.Context,
    id: Annotated[str | None, typer.Option("--id", help="Its name in the cluster. Default: host-pid.")] = None,
    app: Annotated[
        str | None, typer.Option(metavar="MODULE[:ATTR]", help="The tasks to load. Default: the built-in tasks.")
    ] = None,
    queues: Annotated[str | None, typer.Option(metavar="A,B", help="The queues to serve. Default: default.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Slots: how many jobs run at once. Default: 8.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=0, help="Executor processes. Default: by cores and slots.")
    ] = None,
    http_addr: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where /health and /metrics listen. Default: :9090.")
    ] = None,
) -> int:
    """Run a worker: it takes jobs from its queues and runs their tasks in executor processes.

    Example: taskd worker --id worker-1 --app shop.tasks --queues default,images --concurrency 16
    """
    given = {
        "id": id,
        "app": app,
        "queues": queues,
        "concurrency": concurrency,
        "processes": processes,
        "http_addr": http_addr,
    }
    settings = options.settings(context, {("worker", key): value for key, value in given.items()})
    from taskd.compose import run_worker  # noqa: PLC0415  the daemon's parts load only here

    return run_worker(settings)
