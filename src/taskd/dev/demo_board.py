"""The jobs of `make demo` on the screen: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from taskd.dev.demo_jobs import Watched, when
from taskd.runtime.console import styled

#: Widths, each with the space after it.
COLUMNS = {"job": 4, "what it shows": 24, "prio": 5, "status": 10, "order": 6, "worker": 9, "try": 4, "outcome": None}
COLOURS = {"running": "yellow", "completed": "green", "failed": "red"}


class Board:
    """The display of the jobs. Use it with `with`, and call `show` after each fetch of the jobs."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._live = Live(console=out, auto_refresh=False) if out.is_terminal else None
        self._begun = time.monotonic()
        self._printed: dict[int, tuple[str, int]] = {}

    def __enter__(self) -> Board:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def show(self, jobs: Sequence[Watched]) -> None:
        """Draw the table, or print the changes."""
        if self._live is not None:
            self._live.update(table(jobs), refresh=True)
            return
        for watched in sorted(jobs, key=lambda w: w.job.get("started_at", "")):
            state = (watched.status, watched.job.get("attempt", 0))
            if self._printed.get(watched.job["id"], ("pending", 0)) != state:
                self._printed[watched.job["id"]] = state
                self._out.print(f"{time.monotonic() - self._begun:6.2f} s  {_line(watched)}")


def table(jobs: Sequence[Watched]) -> Table:
    """Return all jobs, in 80 columns; the column `order` has the order of their starts."""
    shown = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name, width in COLUMNS.items():
        right = name in {"job", "prio", "order", "try"}
        shown.add_column(name, width=width, justify="right" if right else "left", no_wrap=True)
    order = {watched.job["id"]: place for place, watched in enumerate(_by_start(jobs), 1)}
    for watched in jobs:
        job, colour = watched.job, COLOURS.get(watched.status, "dim")
        shown.add_row(
            str(job["id"]),
            watched.expected.what,
            str(job.get("priority", 0)),
            styled(watched.status, colour),
            str(order.get(job["id"], "")),
            job.get("worker_id", ""),
            str(job.get("attempt", "") or ""),
            styled(watched.outcome),
        )
    return shown


def _by_start(jobs: Sequence[Watched]) -> list[Watched]:
    return sorted((w for w in jobs if "started_at" in w.job), key=lambda w: (when(w.job["started_at"]), w.job["id"]))


def _line(watched: Watched) -> str:
    job = watched.job
    where = f" on {job['worker_id']}" if watched.status == "running" and "worker_id" in job else ""
    tries = f", attempt {job['attempt']}" if job.get("attempt", 0) > 1 else ""
    outcome = f": {watched.outcome}" if watched.outcome else ""
    name = f"job {job['id']:<3} {job['task']:<9} priority {job.get('priority', 0):<3}"
    return f"{name} {watched.status}{where}{tries}{outcome}  ({watched.expected.what})"
