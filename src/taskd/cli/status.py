"""`taskd status`: shows one job, or the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from taskd.cli import options, output
from taskd.cli.explain import one_line
from taskd.cli.moments import UtcOption

if TYPE_CHECKING:
    from taskd.client import Client

IdArgument = Annotated[str | None, typer.Argument(help="A job's id; without one: the cluster.", metavar="ID")]
WatchOption = Annotated[
    bool, typer.Option("--watch", "-w", help="Keep the view up to date: a job until its end, the cluster until Ctrl-C.")
]
FullOption = Annotated[bool, typer.Option("--full", help="Of a job: whole errors, and the tracebacks of all attempts.")]


def status(
    id: IdArgument = None,
    watch: WatchOption = False,
    full: FullOption = False,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> int:
    """Show a job, or the cluster.

    Of a job: its attempts, its timeline, its last traceback. Of the cluster: leader, workers, queues, health.

    Example: taskd status 123 --watch
    """
    if watch and as_json:
        raise typer.BadParameter("--json prints one document, so it does not go with --watch")
    if id is not None:
        options.job_id(id)
    with options.connect(server) as client:
        if watch:
            from taskd.cli import watching  # noqa: PLC0415  loads rich

            return watching.cluster(client) if id is None else watching.job(client, id, full=full)
        if id is not None:
            return _show_job(client, id, full=full, as_json=as_json)
        return _show_cluster(client, as_json=as_json)


def _show_job(client: Client, job_id: str, *, full: bool, as_json: bool) -> int:
    job = client.job(job_id)
    if as_json:
        output.print_json(job)
        return 0
    from taskd.cli import jobview  # noqa: PLC0415  loads rich

    output.show(jobview.job(job, full=full))
    if reason := one_line(client, job):
        output.show(reason)
    return 0


def _show_cluster(client: Client, *, as_json: bool) -> int:
    """Show the cluster; return 1 if it is unhealthy."""
    from taskd.cli.cluster import read_cluster  # noqa: PLC0415  one job does without

    document = read_cluster(client)
    if as_json:
        output.print_json(document)
    else:
        from taskd.cli import tables  # noqa: PLC0415  loads rich

        output.show(tables.cluster(document))
    return 1 if document["health"]["status"] == "unhealthy" else 0
