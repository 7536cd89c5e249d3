"""`taskd status`: one job, or the cluster."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from taskd.cli import options, output


def status(
    id: Annotated[str | None, typer.Argument(help="A job's id; without one: the cluster.", metavar="ID")] = None,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> int:
    """Show a job with its attempts, or the cluster: leader, schedulers, workers, queues and health.

    Example: taskd status 123
    """
    with options.connect(server) as client:
        if id is not None:
            job = client.job(id)
            _show(job, "job", as_json=as_json)
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

    (tables.show_job if what == "job" else tables.show_cluster)(output.console(), document)
