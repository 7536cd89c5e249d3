"""`taskd status --watch`: a view that is kept up to date on a terminal; elsewhere, a line for each change."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from taskd.cli import jobview, output, tables
from taskd.cli.cluster import read_cluster
from taskd.client import Client, ClientError
from taskd.domain.job import FINAL
from taskd.runtime.console import styled

#: Seconds between two requests.
EVERY = 0.5
ENDED_WELL, ENDED_BADLY = 0, 1

Show = Callable[[RenderableType, str], None]


def job(client: Client, job_id: str, *, full: bool = False) -> int:
    """Show one job until it is final, then its end. Return 0 if it completed, else 1.

    Raises ClientError if there is no such job.
    """
    document = client.job(job_id)
    with _view() as show:
        while True:
            show(jobview.job(document, full=full), _job_line(document))
            if document["status"] in FINAL:
                break
            time.sleep(EVERY)
            document = _again(lambda: client.job(job_id), document, show)
    if sys.stdout.isatty():  # the screen from before the watch is back: the end stays on it
        output.show(jobview.job(document, full=full))
    return ENDED_WELL if document["status"] == "completed" else ENDED_BADLY


def cluster(client: Client) -> int:
    """Show the cluster until Ctrl-C."""
    document = read_cluster(client)
    with _view() as show:
        while True:
            show(tables.cluster(document), _cluster_line(document))
            time.sleep(EVERY)
            document = _again(lambda: read_cluster(client), document, show)


def _again(ask: Callable[[], dict[str, Any]], before: dict[str, Any], show: Show) -> dict[str, Any]:
    """Return the next response; while no scheduler answers, show that and return `before`."""
    try:
        return ask()
    except ClientError as error:
        if error.status is not None and error.status < 500:
            raise
        show(styled(f"no answer: {error}", "yellow"), f"no answer: {error}")
        return before


def _job_line(document: dict[str, Any]) -> str:
    worker = f" on {document['worker_id']}" if "worker_id" in document else ""
    attempt = f", attempt {document['attempt']}" if document["attempt"] else ""
    return f"job {document['id']} {document['status']}{attempt}{worker}"


def _cluster_line(document: dict[str, Any]) -> str:
    counts, leader = document["metrics"] or {}, (document["leader"] or {}).get("current_leader") or "none"
    jobs = "  ".join(f"{counts[f'{n}_jobs']} {n}" for n in ("pending", "queued", "running") if f"{n}_jobs" in counts)
    return f"cluster {document['health']['status']}  leader {leader}  {jobs}".rstrip()


@contextmanager
def _view() -> Iterator[Show]:
    console = output.console()
    if not console.is_terminal:
        last = ""

        def write_change(_: RenderableType, line: str) -> None:
            nonlocal last
            if line != last:
                last = line
                output.write_line(line)

        yield write_change
        return
    with _ended_by_signals(), Live(console=console, auto_refresh=False, screen=True) as live:
        yield lambda view, _: live.update(Fitted(view), refresh=True)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise SystemExit for signals that would end the process in the terminal's alternate screen."""
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


class Fitted:
    """A view cut at the height of the terminal; its last line has the number of missing lines."""

    def __init__(self, view: RenderableType) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(1, console.size.height)
        lines = console.render_lines(self._view, options.update(height=None), pad=False)
        if len(lines) > room:
            note = Text(f"… {len(lines) - room + 1} more lines: a higher terminal shows them", "dim")
            lines = [*lines[: room - 1], *console.render_lines(note, options.update(height=None), pad=False)[:1]]
        for line in lines[:-1]:
            yield from line
            yield Segment.line()
        yield from lines[-1] if lines else []
