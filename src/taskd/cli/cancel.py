"""`taskd cancel`: jobs by their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskd.cli import options, output

if TYPE_CHECKING:
    from taskd.client import Client

NOT_ALL = 1


def cancel(
    ids: Annotated[list[str], typer.Argument(help="The jobs' ids.", metavar="ID")],
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
) -> int:
    """Cancel jobs: what waits never runs, what runs is stopped. Exit status 1 if one of them could not be cancelled.

    Example: taskd cancel 17 18
    """
    results: list[dict[str, Any]] = []
    with options.connect(server) as client:
        for job_id in dict.fromkeys(ids):
            results.append(result := _cancel(client, job_id))
            if not as_json:
                _show(result)
    if as_json:
        output.print_json(results)
    return 0 if all(result["cancelled"] for result in results) else NOT_ALL


def _cancel(client: Client, job_id: str) -> dict[str, Any]:
    """What became of one job. Raises ClientError if that cannot be told."""
    from taskd.client import ClientError  # noqa: PLC0415  keeps --help and --version quick

    try:
        job = client.cancel(job_id)
    except ClientError as error:
        if error.status not in (404, 409):
            raise
        known = {"status": error.problem["job_status"]} if "job_status" in error.problem else {}
        shown: int | str = int(job_id) if job_id.isascii() and job_id.isdecimal() and len(job_id) < 20 else job_id
        return {"id": shown, "cancelled": False, **known, "error": str(error)}
    return {"id": job["id"], "cancelled": True, "status": job["status"]}


def _show(result: dict[str, Any]) -> None:
    if result["cancelled"]:
        typer.echo(f"job {result['id']} cancelled")
    else:
        typer.echo(f"job {result['id']} not cancelled: {result['error']}")
