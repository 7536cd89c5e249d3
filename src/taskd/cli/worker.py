"""`taskd worker`: runs one worker in the foreground; its subcommands control running workers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from taskd.cli import options, output, server_defaults
from taskd.cli.config import current_user

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None, no_args_is_help=False)

IdArgument = Annotated[str, typer.Argument(help="The worker's id.", metavar="ID")]
IdOption = Annotated[str | None, typer.Option("--id", help="Its name in the cluster. Default: host-pid.")]
AppOption = Annotated[
    str | None, typer.Option("--app", metavar="MODULE[:ATTR]", help="The tasks to load. Default: the built-in tasks.")
]
QueuesOption = Annotated[str | None, typer.Option(metavar="A,B", help="The queues to serve. Default: default.")]
ConcurrencyOption = Annotated[int | None, typer.Option(min=1, help="Slots: how many jobs run at once. Default: 8.")]
ProcessesOption = Annotated[int | None, typer.Option(min=0, help="Executor processes. Default: by cores and slots.")]
ReloadOption = Annotated[
    bool, typer.Option("--reload", help="For development: apply changes of the code while it runs.")
]
AddressOption = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="The address of /health and /metrics. Default: :9090.")
]


@app.callback()
def worker(
    context: typer.Context,
    id: IdOption = None,
    tasks: AppOption = None,
    queues: QueuesOption = None,
    concurrency: ConcurrencyOption = None,
    processes: ProcessesOption = None,
    reload: ReloadOption = False,
    http_addr: AddressOption = None,
) -> int | None:
    """Run a worker, or control running ones.

    A worker takes jobs from its queues and runs their tasks in executor processes. The commands below control
    running workers, wherever they are.

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
    server_defaults.export_client(settings.client)
    from taskd.compose.worker import run_worker  # noqa: PLC0415  the daemon's parts load only here

    return run_worker(settings)


@app.command()
def quiet(
    worker_id: IdArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> None:
    """Stop a running worker from taking jobs. Running jobs go on. It stays quiet, also after a restart, until `resume`.

    Example: taskd worker quiet worker-1
    """
    with options.connect(server) as client:
        client.worker(worker_id)
        version = client.configure(f"worker.{worker_id}.quiet", True, current_user())
    _print_result(f"worker {worker_id} takes nothing new", version, as_json=as_json)


@app.command()
def resume(
    worker_id: IdArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> None:
    """Let a quiet worker take jobs again.

    Example: taskd worker resume worker-1
    """
    with options.connect(server) as client:
        version = client.unconfigure(f"worker.{worker_id}.quiet", current_user())
    _print_result(f"worker {worker_id} takes jobs again", version, as_json=as_json)


@app.command()
def drain(
    worker_id: IdArgument, server: options.ServerOption = "http://localhost:8080", as_json: options.JsonOption = False
) -> None:
    """Let a running worker finish its running jobs, then end it.

    It has its grace period for that, as after SIGTERM. If it is started again, it takes jobs again.

    Example: taskd worker drain worker-1
    """
    with options.connect(server) as client:
        incarnation = client.worker(worker_id)["incarnation"]
        version = client.configure(f"worker.{worker_id}.drain", incarnation, current_user())
    _print_result(f"worker {worker_id} drains and ends", version, as_json=as_json)


def _print_result(text: str, version: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(version)
    else:
        output.write_line(text)
