"""`taskd status`: one job, or the cluster."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from taskd.cli import options, output
from taskd.cli.explain import one_line


def status(
    id: Annotated[str | None, typer.Argument(help="A job's id; without one: the cluster.", metavar="ID")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on looking: a job until its end, the cluster until Ctrl-C.")
    ] = False,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> int:
    """Show a job with its attempts, or the cluster: leader, schedulers, workers, queues and health.

    Example: taskd status 123 --watch
    """
    if watch and as_json:
        raise typer.BadParameter("--json prints one document, so it does not go with --watch")
    with options.connect(server) as client:
        if watch:
            from taskd.cli import watching  # noqa: PLC0415  loads rich

            return watching.cluster(client) if id is None else watching.job(client, id)
        if id is not None:
            found = client.job(id)
            _show(found, "job", as_json=as_json)
            if not as_json and (why := one_line(client, found)):
                output.console().print(why, markup=False)
            return 0
        from taskd.cli.cluster import look  # noqa: PLC0415  one job does without

        seen = look(client)
    _show(seen, "cluster", as_json=as_json)
    return 1 if seen["health"]["status"] == "unhealthy" else 0


def _show(document: dict[str, Any], what: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json(document)
        return
    from taskd.cli import tables  # noqa: PLC0415  loads rich

    output.console().print((tables.job if what == "job" else tables.cluster)(document))
