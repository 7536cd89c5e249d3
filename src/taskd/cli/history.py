"""`taskd history`: exports finished jobs, so that they can be kept elsewhere."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from taskd.cli import options, output
from taskd.cli.durations import seconds

app = typer.Typer(help="Export finished jobs, to keep them elsewhere.", no_args_is_help=True, rich_markup_mode=None)


class FinalStatus(StrEnum):
    """The statuses that --status takes."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


WHEN = "RFC3339, or a DURATION ago"


@app.command()
def export(
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help=f"Only jobs that ended at or after: {WHEN}.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help=f"Only jobs that ended before: {WHEN}.")] = None,
    status: Annotated[FinalStatus | None, typer.Option(help="Only jobs of this status.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only jobs of this queue.")] = None,
    task: Annotated[str | None, typer.Option(help="Only jobs of this task.")] = None,
    logs: Annotated[bool, typer.Option("--logs", help="Include the attempts' output.")] = False,
    server: options.ServerOption = "http://localhost:8080",
) -> None:
    """Print finished jobs, one JSON object a line, newest first.

    Each has its attempts.

    Example: taskd history export --since 7d --status failed > failed.ndjson
    """
    filters = {
        "since": _when(since, "--since"),
        "until": _when(until, "--until"),
        "status": status,
        "queue": queue,
        "task": task,
        "logs": "true" if logs else None,
    }
    with options.connect(server) as client:
        for lines in client.history({name: value for name, value in filters.items() if value is not None}):
            output.write_json(lines.decode("utf-8", "replace"))


def _when(text: str | None, name: str) -> str | None:
    """Return an instant as the API takes it; `7d` is seven days ago."""
    if text is None:
        return None
    if re.match(r"^\d{4}-", text):
        return options.instant(text, name)
    return (datetime.now(UTC) - timedelta(seconds=seconds(text))).isoformat()
