"""Jobs by filter instead of by their ids: count them, ask, then change them page by page."""

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
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="With a filter: only say how many jobs there are.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="With a filter: do not ask.")]

Action = Literal["cancel", "retry"]
DONE: dict[Action, str] = {"cancel": "cancelled", "retry": "retried"}


class Selection(NamedTuple):
    """What was given besides ids."""

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
        """Raises BadParameter unless there are either ids or a filter."""
        if ids and (self.fields or self.dry_run):
            raise typer.BadParameter("give either ids or a filter, not both")
        if not ids and not self.fields:
            raise typer.BadParameter("which jobs? Give their IDs, or a filter: --status, --queue, --task")


def change(client: Client, action: Action, wanted: Selection, *, as_json: bool) -> int:
    """Cancel or retry what the filter finds; the exit status."""
    found: list[int] = []
    if wanted.dry_run or not (wanted.yes or as_json):
        found = _ids(client, action, {**wanted.fields, "dry_run": True})
    if wanted.dry_run:
        _tell(action, {"dry_run": True, "matched": len(found), "ids": found}, as_json=as_json)
        return 0
    if not wanted.yes and not _agreed(action, len(found), as_json=as_json):
        return 0
    # What was counted, and no job that came since.
    seen = {"cursor": max(found) + 1} if found else {}
    done = _ids(client, action, {**wanted.fields, **seen})
    _tell(action, {"dry_run": False, DONE[action]: len(done), "ids": done}, as_json=as_json)
    return 0


def _ids(client: Client, action: Action, fields: dict[str, Any]) -> list[int]:
    return [job_id for page in client.select(action, fields) for job_id in page["ids"]]


def _agreed(action: Action, jobs: int, *, as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        raise typer.BadParameter(
            f"nobody is there to ask whether to {action} them: add --yes, or --dry-run to look first"
        )
    if not jobs:
        output.tell("there is no such job")
        return False
    return typer.confirm(f"{action} {output.count(jobs)}?", err=True)


def _tell(action: Action, result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(result)
    elif result["dry_run"]:
        output.tell(f"would {action} {output.count(result['matched'])}")
    else:
        output.tell(f"{output.count(result[DONE[action]])} {DONE[action]}")
