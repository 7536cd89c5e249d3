"""`taskd list`: lists jobs, newest first."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from taskd.cli import options, output
from taskd.cli.moments import UtcOption
from taskd.domain.job import JobStatus


def list_jobs(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs of this status.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.")] = None,
    task: Annotated[str | None, typer.Option(help="Only jobs of this task.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=999, help="How many.")] = 20,
    cursor: Annotated[int | None, typer.Option(min=1, metavar="ID", help="Only jobs older than this one.")] = None,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """List jobs, newest first.

    Example: taskd list --status failed --queue images --limit 50
    """
    with options.connect(server) as client:
        # One more than asked for shows whether there are more.
        page = client.list_jobs(status=status, queue=queue, task=task, limit=limit + 1, cursor=cursor)
    shown = page[:limit]
    if as_json:
        output.print_json(shown)
        return
    if not shown:
        output.write_line("no job matches")
        return
    from taskd.cli import tables  # noqa: PLC0415  loads rich

    output.show(tables.jobs(shown))
    if len(page) > limit:
        output.write_line(_next(shown[-1], {"status": status, "queue": queue, "task": task}, limit), err=True)


def _next(last: dict[str, Any], filters: dict[str, str | None], limit: int) -> str:
    given = "".join(f" --{name} {value}" for name, value in filters.items() if value is not None)
    return f"older ones: taskd list{given} --limit {limit} --cursor {last['id']}"
