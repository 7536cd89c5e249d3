"""`taskd cancel`: cancels jobs by their ids, or by a filter."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskd.cli import options, output, selection

if TYPE_CHECKING:
    from taskd.client import Client

NOT_ALL = 1


class LiveStatus(StrEnum):
    """The statuses that --status takes."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"


def cancel(
    ids: selection.IdsArgument = None,
    status: Annotated[LiveStatus | None, typer.Option(help="Only jobs of this status.")] = None,
    queue: selection.QueueOption = None,
    task: selection.TaskOption = None,
    dry_run: selection.DryRunOption = False,
    yes: selection.YesOption = False,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> int:
    """Cancel jobs. Waiting jobs never run, running ones are stopped. Exit status 1 if one of the ids could not be cancelled.

    Example: taskd cancel 17 18; taskd cancel --queue images --status pending --dry-run
    """
    choice = selection.Selection(status, queue, task, dry_run, yes)
    choice.check(ids or [])
    with options.connect(server) as client:
        if not ids:
            return selection.change(client, "cancel", choice, as_json=as_json)
        results: list[dict[str, Any]] = []
        for job_id in dict.fromkeys(ids):
            results.append(result := _cancel(client, job_id))
            if not as_json:
                _show(result)
    if as_json:
        output.print_json(results)
    return 0 if all(result["cancelled"] for result in results) else NOT_ALL


def _cancel(client: Client, job_id: str) -> dict[str, Any]:
    """Cancel one job and return the result. Raises ClientError if the result is unknown."""
    from taskd.client import ClientError  # noqa: PLC0415  keeps --help and --version quick

    try:
        job = client.cancel(job_id)
    except ClientError as error:
        return {"cancelled": False, **options.refusal(job_id, error)}
    return {"id": job["id"], "cancelled": True, "status": job["status"]}


def _show(result: dict[str, Any]) -> None:
    if result["cancelled"]:
        output.write_line(f"job {result['id']} cancelled")
    else:
        output.write_line(f"job {result['id']} not cancelled: {result['error']}")
