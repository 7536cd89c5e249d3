"""The results: a table for the terminal, JSON to compare with, Markdown to read and a picture for the README."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.targets import TARGETS, holds

#: The figures of the picture, and its measures in pixels.
DRAWN = ("end to end, jobs/s", "drain, jobs/s")
WIDTH, LABEL, BAR, GAP = 760, 150, 14, 10

Contest = Mapping[str, Mapping[str, Sequence[float]]]


def text(figure: float) -> str:
    """A figure with as many digits as say something."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def show(figures: Mapping[str, float], limits: Mapping[str, float], contest: Contest, console: Console) -> None:
    """Print everything."""
    own = Table("figure", "measured", "target", "", title="taskd")
    for name, figure in figures.items():
        found = TARGETS.get(name)
        bound = found.target or found.floor if found else ""
        own.add_row(name, text(figure), bound, "" if not bound else "met" if holds(figure, bound) else "missed")
    console.print(own)
    raw = Table("limit", "measured", title="this machine's servers by themselves")
    for name, figure in limits.items():
        raw.add_row(name, text(figure))
    console.print(raw)
    if len(contest) > 1:
        console.print(_side_by_side(contest))


def _side_by_side(contest: Contest) -> Table:
    names = list(contest["taskd"])
    table = Table("", *names, title="side by side: medians")
    for contestant, found in contest.items():
        table.add_row(contestant, *(text(median(found[name])) for name in names))
    return table


def fallen(figures: Mapping[str, float], limits: Mapping[str, float], then: Mapping[str, Any]) -> list[str]:
    """What became slower since the committed table by more than a third, beside what the machine itself reached each time."""
    pairs = [(limits[name], then["limits"][name]) for name in limits if name in then["limits"]]
    machine = median(now / before for now, before in pairs) if pairs else 1.0
    lines = []
    for name, figure in figures.items():
        before = then["figures"].get(name)
        if before is None or not name.endswith("jobs/s"):
            continue
        change = figure / before / machine
        if change < 2 / 3:
            lines.append(
                f"{name}: {text(figure)}, {change:.2f} of {text(before)} on a machine that is {machine:.2f} of what it was"
            )
    return lines


def markdown(document: Mapping[str, Any]) -> str:
    """The whole result as a page."""
    machine = document["machine"]
    parts = [
        "# Measured",
        "`make bench` writes this page (bench/out/latest.md). Side by side, and in ratios, are medians, with the lowest and "
        "the highest pass; taskd's other figures and the servers' are measured once. All that runs shares one machine.",
        ", ".join(f"{key} {value}" for key, value in machine.items()),
    ]
    if len(document["contest"]) > 1:
        parts += ["## Side by side", _contest(document["contest"]), _notes(document["notes"])]
    parts += [
        "## taskd",
        _own(document["figures"], document.get("ratios", {})),
        "## What the servers reach by themselves",
        _limits(document["limits"]),
    ]
    return "\n\n".join(parts) + "\n"


def short(document: Mapping[str, Any]) -> str:
    """The README's table."""
    names = [*DRAWN, "in bulk, jobs/s", "idle, submit to start p50, ms"]
    rows = [
        [contestant, *(text(median(found[name])) for name in names)]
        for contestant, found in document["contest"].items()
    ]
    return _rows(["", *names], rows)


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _contest(contest: Contest) -> str:
    names = list(contest["taskd"])
    rows = []
    for contestant, found in contest.items():
        rows.append([contestant, *(_with_range(found[name]) for name in names)])
    return _rows(["", *names], rows)


def _with_range(passes: Sequence[float]) -> str:
    middle = text(median(passes))
    return middle if len(passes) == 1 else f"{middle} ({text(min(passes))} to {text(max(passes))})"


def _notes(notes: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {note}" for name, note in notes.items())


def _own(figures: Mapping[str, float], ratios: Mapping[str, Sequence[float]]) -> str:
    rows = []
    for name, figure in figures.items():
        target = TARGETS[name].target if name in TARGETS else ""
        verdict = "" if not target else "met" if holds(figure, target) else "missed"
        rows.append([name, _with_range(ratios.get(name, [figure])), target, verdict])
    return _rows(["figure", "measured", "target", ""], rows)


def _limits(limits: Mapping[str, float]) -> str:
    return _rows(["limit", "measured"], [[name, text(figure)] for name, figure in limits.items()])


def picture(contest: Contest) -> str:
    """Bars, longest first, as SVG that is readable on light and on dark pages."""
    parts, y = [], 0
    for figure in DRAWN:
        parts.append(f'<text x="0" y="{y + 16}" class="title">{escape(figure)}</text>')
        y += 28
        found = sorted(((median(passes[figure]), name) for name, passes in contest.items()), reverse=True)
        for value, name in found:
            width = (WIDTH - LABEL - 80) * value / found[0][0]
            kind = "own" if name == "taskd" else "other"
            parts.append(
                f'<text x="{LABEL - 8}" y="{y + BAR - 2}" class="name">{escape(name)}</text>'
                f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" class="{kind}"/>'
                f'<text x="{LABEL + width + 6:.1f}" y="{y + BAR - 2}">{text(value)}</text>'
            )
            y += BAR + GAP
        y += GAP
    style = (
        "text{font:13px sans-serif;fill:#57606a}.title{font-weight:bold}.name{text-anchor:end}"
        ".own{fill:#2da44e}.other{fill:#8c959f}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img">'
    return f"{head}<style>{style}</style>{''.join(parts)}</svg>\n"


def write(document: Mapping[str, Any], folder: Path) -> None:
    """latest.json, latest.md and, if there were peers, latest.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / "latest.md").write_text(markdown(document))
    if len(document["contest"]) > 1:
        (folder / "latest.svg").write_text(picture(document["contest"]))
