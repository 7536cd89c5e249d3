"""`taskd retry`: submits failed and cancelled jobs again, as new jobs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskd.cli import options, output, selection

if TYPE_CHECKING:
    from taskd.client import Client

NOT_ALL = 1


class EndedStatus(StrEnum):
    """The statuses that --status takes."""

    FAILED = "failed"
    CANCELLED = "cancelled"


def retry(
    ids: selection.IdsArgument = None,
    status: Annotated[EndedStatus | None, typer.Option(help="Only jobs of this status. Default: failed.")] = None,
    queue: selection.QueueOption = None,
    task: selection.TaskOption = None,
    dry_run: selection.DryRunOption = False,
    yes: selection.YesOption = False,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> int:
    """Retry jobs that failed or were cancelled.

    Each becomes a new job, once. Exit status 1 if one of the ids could not be retried.

    Example: taskd retry 17; taskd retry --status failed --queue images --yes
    """
    choice = selection.Selection(status, queue, task, dry_run, yes)
    choice.check(ids or [])
    with options.connect(server) as client:
        if not ids:
            return selection.change(client, "retry", choice, as_json=as_json)
        results: list[dict[str, Any]] = []
        for job_id in dict.fromkeys(ids):
            results.append(result := _retry(client, job_id))
            if not as_json:
                _show(result)
    if as_json:
        output.print_json(results)
    return 0 if all("retried_as" in result for result in results) else NOT_ALL


def _retry(client: Client, job_id: str) -> dict[str, Any]:
    """Retry one job and return the result. Raises ClientError if the result is unknown."""
    from taskd.client import ClientError  # noqa: PLC0415  keeps --help and --version quick

    try:
        job = client.retry(job_id)
    except ClientError as error:
        return options.refusal(job_id, error)
    result = {"id": job.get("parent_id", job_id), "retried_as": job["id"], "status": job.get("status", "pruned")}
    return {**result, "duplicate": True} if job.get("duplicate") else result


def _show(result: dict[str, Any]) -> None:
    if "retried_as" not in result:
        output.write_line(f"job {result['id']} not retried: {result['error']}")
    elif result.get("duplicate"):
        output.write_line(
            f"job {result['id']} was retried before, as job {result['retried_as']}, which is {result['status']}"
        )
    else:
        output.write_line(f"job {result['id']} retried as job {result['retried_as']}")
