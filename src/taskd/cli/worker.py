"""`taskd worker`: one worker in the foreground; and what may be told to running ones."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from taskd.cli import beside, options, output
from taskd.cli.config import who

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None, no_args_is_help=False)

IdArgument = Annotated[str, typer.Argument(help="The worker's id.", metavar="ID")]


@app.callback()
def worker(
    context: typer.Context,
    id: Annotated[str | None, typer.Option("--id", help="Its name in the cluster. Default: host-pid.")] = None,
    tasks: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE[:ATTR]", help="The tasks to load. Default: the built-in tasks."),
    ] = None,
    queues: Annotated[str | None, typer.Option(metavar="A,B", help="The queues to serve. Default: default.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Slots: how many jobs run at once. Default: 8.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=0, help="Executor processes. Default: by cores and slots.")
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="For development: take up changes of the code while it runs.")
    ] = False,
    http_addr: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where /health and /metrics listen. Default: :9090.")
    ] = None,
) -> int | None:
    """Run a worker, or tell running ones what to do.

    A worker takes jobs from its queues and runs their tasks in executor processes. The commands below tell running
    workers, wherever they are, what to do.

    Example: taskd worker --id worker-1 --app shop.tasks --queues default,images --concurrency 16
    """
    if context.invoked_subcommand is not None:
        return None
    given = {
        "id": id,
        "app": tasks,
        "queues": queues,
        "concurrency": concurrency,
        "processes": processes,
        "http_addr": http_addr,
        "reload": reload or None,
    }
    settings = options.settings(context, {("worker", key): value for key, value in given.items()})
    beside.hand_on(settings.client)
    from taskd.compose.worker import run_worker  # noqa: PLC0415  the daemon's parts load only here

    return run_worker(settings)


@app.command()
def quiet(
    worker_id: IdArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> None:
    """Let a running worker take nothing new; what it runs goes on. It stays quiet, also restarted, until `resume`.

    Example: taskd worker quiet worker-1
    """
    with options.connect(server) as client:
        client.worker(worker_id)
        version = client.configure(f"worker.{worker_id}.quiet", True, who())
    _tell(f"worker {worker_id} takes nothing new", version, as_json=as_json)


@app.command()
def resume(
    worker_id: IdArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> None:
    """Let a quiet worker take jobs again.

    Example: taskd worker resume worker-1
    """
    with options.connect(server) as client:
        version = client.unconfigure(f"worker.{worker_id}.quiet", who())
    _tell(f"worker {worker_id} takes jobs again", version, as_json=as_json)


@app.command()
def drain(
    worker_id: IdArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> None:
    """Let a running worker finish what it runs, and end.

    It has its grace for that, as at SIGTERM. Started again, it works again.

    Example: taskd worker drain worker-1
    """
    with options.connect(server) as client:
        incarnation = client.worker(worker_id)["incarnation"]
        version = client.configure(f"worker.{worker_id}.drain", incarnation, who())
    _tell(f"worker {worker_id} drains and ends", version, as_json=as_json)


def _tell(done: str, version: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(version)
    else:
        output.tell(done)
