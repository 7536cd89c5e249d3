"""`taskd logs`: shows the output (log records and prints) of a job's attempts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskd.cli import options, output
from taskd.cli.moments import UtcOption, clock
from taskd.domain.errors import TaskdError
from taskd.runtime.terminal import clean, clean_line

if TYPE_CHECKING:
    from rich.console import Console

    from taskd.client import Client

#: Seconds between two requests, and before the last one.
EVERY, LAST = 0.5, 1.0
FINAL = ("completed", "failed", "cancelled")
COLOURS = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "red", "stderr": "yellow", "taskd": "dim"}


def logs(
    id: Annotated[str, typer.Argument(help="A job's id.", metavar="ID")],
    attempt: Annotated[int | None, typer.Option(min=1, help="Only this attempt. Default: all of them.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is final, or Ctrl-C.")] = False,
    server: options.ServerOption = "http://localhost:8080",
    as_json: options.JsonOption = False,
    _utc: UtcOption = False,
) -> int:
    """Show what a job's attempts logged and printed.

    Of long output, only the first and the last part are kept.

    Example: taskd logs 123 --follow
    """
    if follow and as_json:
        raise typer.BadParameter("--json prints one document, so it does not go with --follow")
    with options.connect(server) as client:
        pages = _pages(client, options.job_id(id), attempt, follow=follow)
        if as_json:
            whole = list(pages)
            output.print_json({"id": whole[-1]["id"], "lines": [line for page in whole for line in page["lines"]]})
            return 0
        return _print(pages)


def _pages(client: Client, job_id: str, attempt: int | None, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Yield page after page to the last one. Raises ClientError, and TaskdError if the job ends without this attempt."""
    cursor: str | None = None
    over, followed = not follow, False
    while True:
        page = client.logs(job_id, attempt, cursor)
        yield page
        cursor = page["cursor"]
        if page["more"]:
            continue
        if over:
            break
        # `status` was read before the lines. So a final job's lines are all there, unless a cancel or the task's own
        # transaction came before them. The same holds for an attempt that another one follows.
        over = page["status"] in FINAL or (attempt is not None and page["attempts"] > attempt)
        if over and not followed:
            break
        followed = True
        time.sleep(LAST if over else EVERY)
    if attempt is not None and attempt > page["attempts"]:
        raise TaskdError(f"job {job_id} has {_count(page['attempts'])}, and no attempt {attempt}")


def _count(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts or 'no'} attempts"


def _print(pages: Iterator[dict[str, Any]]) -> int:
    from taskd.runtime.console import styled  # noqa: PLC0415  --json does without

    console = output.console()
    before, printed = 0, False
    for page in pages:
        for line in page["lines"]:
            if line["attempt"] != before and page["attempts"] > 1:
                console.print(styled(f"attempt {line['attempt']}", "bold"))
            before, printed = line["attempt"], True
            _line(console, line)
        if printed and not console.is_terminal:
            console.file.flush()
    if not printed:
        output.write_line("nothing was logged or printed", err=True)
    return 0


def _line(console: Console, line: dict[str, Any]) -> None:
    from rich.text import Text  # noqa: PLC0415  --json does without

    kind = clean_line(str(line.get("level", line["source"])))
    style = COLOURS.get(kind, "")
    stamp = clean_line(clock(line["at"]))
    first, *rest = clean(line["text"]).split("\n")
    console.print(Text.assemble((stamp, "dim"), "  ", (f"{kind:<8}", style), first), soft_wrap=True)
    for more in rest:
        console.print(Text(" " * (len(stamp) + 10) + more), soft_wrap=True)
