"""Changes to jobs by a filter instead of their ids: count them, ask for confirmation, then change them page by page."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from taskd.cli import output

if TYPE_CHECKING:
    from taskd.client import Client

IdsArgument = Annotated[list[str] | None, typer.Argument(help="The jobs' ids; or else a filter.", metavar="ID")]
QueueOption = Annotated[str | None, typer.Option("--queue", help="Only jobs of this queue.")]
TaskOption = Annotated[str | None, typer.Option("--task", help="Only jobs of this task.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="With a filter: only count the jobs.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="With a filter: do not ask for confirmation.")]

Action = Literal["cancel", "retry"]
DONE: dict[Action, str] = {"cancel": "cancelled", "retry": "retried"}


class Selection(NamedTuple):
    """The options besides ids."""

    status: str | None
    queue: str | None
    task: str | None
    dry_run: bool
    yes: bool

    @property
    def fields(self) -> dict[str, str]:
        """The filter as the API takes it."""
        given = {"status": self.status, "queue": self.queue, "task": self.task}
        return {name: value for name, value in given.items() if value is not None}

    def check(self, ids: list[str]) -> None:
        """Raise BadParameter unless there are either ids or a filter."""
        if ids and (self.fields or self.dry_run):
            raise typer.BadParameter("give either ids or a filter, not both")
        if not ids and not self.fields:
            raise typer.BadParameter("which jobs? Give their IDs, or a filter: --status, --queue, --task")


def change(client: Client, action: Action, choice: Selection, *, as_json: bool) -> int:
    """Cancel or retry the jobs that match the filter; return the exit status."""
    matched: list[int] = []
    if choice.dry_run or not (choice.yes or as_json):
        matched = _ids(client, action, {**choice.fields, "dry_run": True})
    if choice.dry_run:
        _print_result(action, {"dry_run": True, "matched": len(matched), "ids": matched}, as_json=as_json)
        return 0
    if not choice.yes and not _confirmed(action, len(matched), as_json=as_json):
        return 0
    # Only the jobs that were counted: none that was submitted since.
    bound = {"cursor": max(matched) + 1} if matched else {}
    changed = _ids(client, action, {**choice.fields, **bound})
    _print_result(action, {"dry_run": False, DONE[action]: len(changed), "ids": changed}, as_json=as_json)
    return 0


def _ids(client: Client, action: Action, fields: dict[str, Any]) -> list[int]:
    return [job_id for page in client.select(action, fields) for job_id in page["ids"]]


def _confirmed(action: Action, jobs: int, *, as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        raise typer.BadParameter(
            f"there is no terminal to ask whether to {action} them: add --yes, or --dry-run to look first"
        )
    if not jobs:
        output.write_line("no job matches")
        return False
    return typer.confirm(f"{action} {output.count(jobs)}?", err=True)


def _print_result(action: Action, result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(result)
    elif result["dry_run"]:
        output.write_line(f"would {action} {output.count(result['matched'])}")
    else:
        output.write_line(f"{output.count(result[DONE[action]])} {DONE[action]}")
