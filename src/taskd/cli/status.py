"""`taskd status`: one job, or the cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from taskd.cli import options, output
from taskd.cli.explain import one_line
from taskd.cli.moments import UtcOption


def status(
    id: Annotated[str | None, typer.Argument(help="A job's id; without one: the cluster.", metavar="ID")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on looking: a job until its end, the cluster until Ctrl-C.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Of a job: whole errors, and the tracebacks of all attempts.")
    ] = False,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> int:
    """Show a job, or the cluster.

    Of a job: its attempts, how long it stood where, where it failed. Of the cluster: leader, workers, queues, health.

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
            found = client.job(id)
            if as_json:
                output.print_json(found)
            else:
                from taskd.cli import jobview  # noqa: PLC0415  loads rich

                output.show(jobview.job(found, full=full))
                if why := one_line(client, found):
                    output.show(why)
            return 0
        from taskd.cli.cluster import look  # noqa: PLC0415  one job does without

        seen = look(client)
    if as_json:
        output.print_json(seen)
    else:
        from taskd.cli import tables  # noqa: PLC0415  loads rich

        output.show(tables.cluster(seen))
    return 1 if seen["health"]["status"] == "unhealthy" else 0
