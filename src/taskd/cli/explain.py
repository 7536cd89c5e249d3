"""`taskd explain`: why a job is not running or not finished."""

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

#: Columns of the text, also on a terminal that has more: sentences are read.
WIDTH = 80


def explain(
    id: Annotated[str, typer.Argument(help="A job's id.", metavar="ID")],
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> None:
    """Say why a job is not running or not finished.

    Also when that ends, if it can be told, and what to do about it.

    Example: taskd explain 123
    """
    with options.connect(server) as client:
        found = client.explain(options.job_id(id))
    if as_json:
        output.print_json(found)
        return
    output.show(text(found), WIDTH)


def one_line(client: Client, job: dict[str, Any]) -> str:
    """Why a job that waits does so, in one line; empty for any other."""
    from taskd.client import ClientError  # noqa: PLC0415  as in options.connect

    if job["status"] not in ("pending", "queued"):
        return ""
    try:
        return in_text(str(client.explain(job["id"])["summary"]))
    except ClientError:
        return ""  # the job itself is told


def text(found: dict[str, Any]) -> Group:
    """The explanation for people."""
    from rich.console import Group  # noqa: PLC0415  --json does without
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from taskd.runtime.console import styled  # noqa: PLC0415

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, line in _lines(found):
        grid.add_row(name, styled(in_text(line)))
    head = f"job {found['id']} {found['status']} ({found['reason']})"
    summary = styled(in_text(found["summary"]))
    return Group(styled(head), Padding(summary, (0, 0, 0, 2)), Padding(grid, (0, 0, 0, 2)))


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What stands below the sentence: a word, and what it is about."""
    lines = []
    if "estimate" in found:
        about = found["estimate"]
        least = "at least " if about.get("at_least") else "about "
        lines.append(("estimate", f"{least}{span(about['seconds'])}: {about['basis']}"))
    lines.append(("to do", found["advice"]))
    lines += [("also", beside["summary"]) for beside in found.get("beside", [])]
    lines += [("busy", _busy(one, found["at"])) for one in found["detail"].get("longest", [])]
    lines.append(("seen", f"by {found['seen_by']} at {moment(found['at'])}"))
    return lines


def _busy(one: dict[str, Any], now: str) -> str:
    for_ = (datetime.fromisoformat(now) - datetime.fromisoformat(one["started_at"])).total_seconds()
    return f"job {one['id']} ({one['task']}, queue {one['queue']}) on {one['worker_id']} for {span(for_)}"
