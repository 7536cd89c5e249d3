"""`taskd explain`: shows why a job is not running or not finished."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskd.cli import options, output
from taskd.cli.moments import UtcOption, in_text, moment
from taskd.domain.phrases import span

if TYPE_CHECKING:
    from rich.console import Group

    from taskd.client import Client

#: Columns of the text, also on a wider terminal, for the sake of readability.
WIDTH = 80


def explain(
    id: Annotated[str, typer.Argument(help="A job's id.", metavar="ID")],
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """Show why a job is not running or not finished.

    Also shows when that is likely to end, if an estimate is possible, and what to do about it.

    Example: taskd explain 123
    """
    with options.connect(server) as client:
        explanation = client.explain(options.job_id(id))
    if as_json:
        output.print_json(explanation)
        return
    output.show(text(explanation), WIDTH)


def one_line(client: Client, job: dict[str, Any]) -> str:
    """Return in one line why a waiting job waits; an empty text for any other job."""
    from taskd.client import ClientError  # noqa: PLC0415  as in options.connect

    if job["status"] not in ("pending", "queued"):
        return ""
    try:
        return in_text(str(client.explain(job["id"])["summary"]))
    except ClientError:
        return ""  # the job itself is shown all the same


def text(explanation: dict[str, Any]) -> Group:
    """Return the explanation as text."""
    from rich.console import Group  # noqa: PLC0415  --json does without
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from taskd.runtime.console import styled  # noqa: PLC0415

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, line in _lines(explanation):
        grid.add_row(name, styled(in_text(line)))
    head = f"job {explanation['id']} {explanation['status']} ({explanation['reason']})"
    summary = styled(in_text(explanation["summary"]))
    return Group(styled(head), Padding(summary, (0, 0, 0, 2)), Padding(grid, (0, 0, 0, 2)))


def _lines(explanation: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines below the summary, each as (label, text)."""
    lines = []
    if "estimate" in explanation:
        estimate = explanation["estimate"]
        bound = "at least " if estimate.get("at_least") else "about "
        lines.append(("estimate", f"{bound}{span(estimate['seconds'])}: {estimate['basis']}"))
    lines.append(("to do", explanation["advice"]))
    lines += [("also", reason["summary"]) for reason in explanation.get("beside", [])]
    lines += [("busy", _busy(job, explanation["at"])) for job in explanation["detail"].get("longest", [])]
    lines.append(("seen", f"by {explanation['seen_by']} at {moment(explanation['at'])}"))
    return lines


def _busy(job: dict[str, Any], now: str) -> str:
    elapsed = (datetime.fromisoformat(now) - datetime.fromisoformat(job["started_at"])).total_seconds()
    return f"job {job['id']} ({job['task']}, queue {job['queue']}) on {job['worker_id']} for {span(elapsed)}"
