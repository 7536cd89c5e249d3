"""The report of a soak, as tables and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.soak.causes import Line
from tests.soak.trend import Trend
from tests.soak.verdict import SLOPE, Bound, Process

#: The most lines without a cause that are shown.
SHOWN = 20


@dataclass(kw_only=True)
class Report:
    """Result of a soak."""

    seed: int
    minutes: float
    maximum: float
    rate: float
    submitted: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    #: The most seconds that the load was behind its rate.
    behind: float = 0.0
    ends: dict[str, int] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    #: Numbers of log lines by cause.
    causes: dict[str, int] = field(default_factory=dict)
    unexplained: list[Line] = field(default_factory=list)
    #: Further failures.
    problems: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> list[str]:
        """All failures, a sentence each."""
        grown = [text for process in self.processes for text in process.complaints]
        burst = [
            f"{b.name}: {b.most:,.1f}, at most {b.bound:,.1f} is allowed ({b.why})" for b in self.bounds if not b.kept
        ]
        quiet = [f"{len(self.unexplained)} lines in the logs have no cause"] if self.unexplained else []
        return [*self.problems, *grown, *burst, *quiet]

    def json(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return {**asdict(self), "complaints": self.complaints, "passed": not self.complaints}


def show(report: Report, console: Console) -> None:
    """Print the report."""
    console.print(_processes(report))
    console.print(_bounds(report))
    console.print(_causes(report))
    for line in report.unexplained[:SHOWN]:
        console.print(f"  no cause: {line.process}: {line.level}: {escape(line.text[:300])}", highlight=False)
    ends = ", ".join(f"{n:,} {status}" for status, n in sorted(report.ends.items()))
    console.print(
        f"{report.submitted:,} jobs submitted, {ends}; restarts: {report.restarts}; the load was at most "
        f"{report.behind:.1f} s behind",
        highlight=False,
    )
    for complaint in report.complaints:
        console.print(f"  [red]{escape(complaint)}[/]", highlight=False)
    console.print("[bold red]FAILED[/]" if report.complaints else "[green]passed[/]")


def _processes(report: Report) -> Table:
    table = Table(title=f"Processes (at most {SLOPE:g} MB per 10 minutes, after the warm-up)", title_justify="left")
    for name in ("process", "minutes", "RSS, MB", "slope, MB/10 min (95 %)", "fds", "tasks", "verdict"):
        table.add_column(name, justify="left" if name in ("process", "verdict") else "right")
    whole = max((process.seconds for process in report.processes), default=0.0)
    hidden = [p for p in report.processes if not p.judged and p.seconds < whole / 2]
    for process in report.processes:
        if process not in hidden:
            table.add_row(
                process.name,
                f"{process.seconds / 60:.1f}",
                f"{process.begin:.1f} → {process.end:.1f}",
                _slope(process.memory),
                f"{process.fds[0]:.0f} → {process.fds[1]:.0f}",
                f"{process.tasks[0]:.0f} → {process.tasks[1]:.0f}" if process.tasks else "",
                process.verdict,
            )
    if hidden:
        longest = max(process.seconds for process in hidden) / 60
        table.caption = f"and {len(hidden)} of restarted workers, {longest:.1f} minutes old at most: too short to judge"
    return table


def _slope(memory: Trend | None) -> str:
    return "" if memory is None else f"{memory.slope:+.2f} ({memory.low:+.2f} to {memory.high:+.2f})"


def _bounds(report: Report) -> Table:
    table = Table(title="What the servers hold", title_justify="left")
    for name in ("figure", "begin", "most", "end", "bound", "why", ""):
        table.add_column(name, justify="left" if name in ("figure", "why", "") else "right")
    for bound in report.bounds:
        limit = "" if bound.bound is None else f"{bound.bound:,.1f}"
        word = "" if bound.bound is None else "kept" if bound.kept else "[bold red]BROKEN[/]"
        figures = (f"{value:,.1f}" for value in (bound.begin, bound.most, bound.end))
        table.add_row(bound.name, *figures, limit, bound.why, word)
    return table


def _causes(report: Report) -> Table:
    table = Table("lines", "cause", title="Lines of WARNING and ERROR", title_justify="left")
    for cause, count in sorted(report.causes.items(), key=lambda item: -item[1]):
        table.add_row(f"{count:,}", cause)
    table.add_row(f"{len(report.unexplained):,}", "none")
    return table
