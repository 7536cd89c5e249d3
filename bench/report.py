"""The results: tables for the terminal, JSON to compare with, Markdown to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from bench.ceilings import limit_share
from bench.chart import DRAWN, picture
from bench.formatting import text, with_range
from bench.targets import bound, holds, unmeasured

Document = Mapping[str, Any]

INTRODUCTION = (
    "Read here how fast taskd is on one machine, beside other systems and beside its own servers. docs/performance.md explains "
    "the figures. `make bench` writes this page as bench/out/latest.md. Each figure is the median of the passes, with the "
    "lowest and the highest in brackets. A figure without a range was measured once. All processes share one machine. A "
    "limit is what the servers or the network reach by themselves with the same work, in the same run. The share of the "
    "limit stands beside it: for a rate the figure divided by the limit, for a time or a cost the limit divided by the figure."
)
#: The meaning of the columns of the contest, for all systems alike.
METHOD = (
    "one by one, in bulk: one client on one connection, which waits for each response; a bulk has a thousand jobs, or as many "
    "as the system's own client sends at a time",
    "drain: newly started workers run the jobs that are stored; their start and the first tenth are not counted",
    "end to end: from the first submit of a bulk to the start of the last job; the jobs do nothing",
    "CPU: of the whole machine meanwhile, servers and client included",
    "memory: of the system's own processes right afterwards, without servers and clients; shared memory is divided among the "
    "processes",
    "idle: one job at a time, each after the last is done. Start is the time at which the task runs. Done is the time at "
    "which the system has recorded it: its row is finished or deleted, its entry acknowledged, its key deleted; the servers "
    "are polled without a pause. Both count from just before the client's submit",
)
#: Columns of a line of the page.
WIDTH = 100


class Section(NamedTuple):
    """A table, and lines that explain it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def sections(document: Document) -> list[Section]:
    """Return all results."""
    return [_side_by_side(document), _own(document), _limits(document)]


def _side_by_side(document: Document) -> Section:
    contest, limits = document["contest"], document["limits"]
    names = list(contest["taskd"])
    rows = [[system, *(with_range(results[name]) for name in names)] for system, results in contest.items()]
    held = [limit_share(name, median(contest["taskd"][name]), limits) for name in names]
    rows.append(["the limit", *(f"{text(limit.limit)} ({limit.name})" if limit else "" for limit in held)])
    rows.append(["taskd, of the limit", *(f"{limit.share:.0%}" if limit else "" for limit in held)])
    notes = [f"{name}: {note}" for name, note in document["notes"].items()]
    return Section("Side by side", ["", *names], rows, [*notes, *METHOD])


def _own(document: Document) -> Section:
    figures = document["figures"]
    several = document["ratios"] | document.get("passes", {})
    rows = []
    for name, figure in figures.items():
        against, held = bound(name), limit_share(name, figure, document["limits"])
        verdict = "" if not against else "met" if holds(figure, against) else "missed"
        limit = [f"{text(held.limit)} ({held.name})", f"{held.share:.0%}"] if held else ["", ""]
        rows.append([name, with_range(several.get(name, [figure])), *limit, against, verdict])
    for name, target in unmeasured(figures).items():
        rows.append([name, "", "", "", bound(name), f"not measured: {target.by}"])
    return Section("taskd", ["figure", "measured", "limit", "of it", "target", ""], rows)


def _limits(document: Document) -> Section:
    several = document.get("passes", {})
    rows = [[name, with_range(several.get(name, [figure]))] for name, figure in document["limits"].items()]
    return Section("What the servers reach by themselves", ["limit", "measured"], rows)


def _machine(document: Document) -> str:
    return ", ".join(f"{key} {value}" for key, value in document["machine"].items())


def show(document: Document, console: Console) -> None:
    """Print all results."""
    for section in sections(document):
        table = Table(*section.head, title=section.title, box=box.SIMPLE_HEAD)
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
        for note in section.notes:
            console.print(f"  {note}", style="dim", highlight=False)
    console.print(_machine(document), style="dim")


def markdown(document: Document) -> str:
    """Return the whole result as a page."""
    parts = ["# Measured", _wrapped(INTRODUCTION), _wrapped(_machine(document))]
    for section in sections(document):
        parts += [f"## {section.title}", _rows(section.head, section.rows)]
        if section.notes:
            parts.append("\n".join(_wrapped(f"- {note}", "  ") for note in section.notes))
    return "\n\n".join(parts) + "\n"


def _wrapped(text: str, indent: str = "") -> str:
    return fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def short(document: Document) -> str:
    """Return the README's table."""
    names = [*DRAWN, "in bulk, jobs/s", "idle, submit to start p50, ms"]
    rows = [
        [contestant, *(text(median(results[name])) for name in names)]
        for contestant, results in document["contest"].items()
    ]
    return _rows(["", *names], rows)


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(document: Document, folder: Path) -> None:
    """Write latest.json, latest.md and, if there were peers, latest.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / "latest.md").write_text(markdown(document))
    if len(document["contest"]) > 1:
        (folder / "latest.svg").write_text(picture(document["contest"]))
