"""`taskd status --watch`: a view that is kept up to date; where nobody looks (a pipe), a line for each change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import RenderableType
from rich.live import Live
from rich.markup import escape

from taskd.cli import jobview, output, tables
from taskd.cli.cluster import look
from taskd.client import Client, ClientError

#: Seconds between two looks.
EVERY = 0.5
ENDED_WELL, ENDED_BADLY = 0, 1

Show = Callable[[RenderableType, str], None]


def job(client: Client, job_id: str, *, full: bool = False) -> int:
    """Show one job until it is final; 0 if it completed, else 1. Raises ClientError if there is no such job."""
    found = client.job(job_id)
    with _view() as show:
        while True:
            show(jobview.job(found, full=full), _job_line(found))
            if found["status"] in ("completed", "failed", "cancelled"):
                return ENDED_WELL if found["status"] == "completed" else ENDED_BADLY
            time.sleep(EVERY)
            found = _again(lambda: client.job(job_id), found, show)


def cluster(client: Client) -> int:
    """Show the cluster until Ctrl-C."""
    seen = look(client)
    with _view() as show:
        while True:
            show(tables.cluster(seen), _cluster_line(seen))
            time.sleep(EVERY)
            seen = _again(lambda: look(client), seen, show)


def _again(ask: Callable[[], dict[str, Any]], before: dict[str, Any], show: Show) -> dict[str, Any]:
    """The next look; while nobody answers, what was seen `before`, under a line that says so."""
    try:
        return ask()
    except ClientError as error:
        if error.status is not None and error.status < 500:
            raise
        show(f"[yellow]{escape(str(error))}[/]", f"no answer: {error}")
        return before


def _job_line(found: dict[str, Any]) -> str:
    worker = f" on {found['worker_id']}" if "worker_id" in found else ""
    attempt = f", attempt {found['attempt']}" if found["attempt"] else ""
    return f"job {found['id']} {found['status']}{attempt}{worker}"


def _cluster_line(seen: dict[str, Any]) -> str:
    counts, leader = seen["metrics"] or {}, (seen["leader"] or {}).get("current_leader") or "none"
    jobs = "  ".join(f"{counts[f'{n}_jobs']} {n}" for n in ("pending", "queued", "running") if f"{n}_jobs" in counts)
    return f"cluster {seen['health']['status']}  leader {leader}  {jobs}".rstrip()


@contextmanager
def _view() -> Iterator[Show]:
    console = output.console()
    if not console.is_terminal:
        told: list[str] = []

        def tell(_: RenderableType, line: str) -> None:
            if told[-1:] != [line]:
                told[:] = [line]
                console.print(line, markup=False)

        yield tell
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        yield lambda view, _: live.update(view, refresh=True)
