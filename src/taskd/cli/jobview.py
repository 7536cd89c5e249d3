"""One job as text: its fields, its timeline, its attempts, and the last traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from taskd.cli.durations import duration_text
from taskd.cli.moments import in_text, moment, zone_name
from taskd.cli.output import brief
from taskd.cli.tables import coloured, table_of
from taskd.runtime.console import styled
from taskd.runtime.terminal import clean, clean_line

#: The fields that are shown first; the others follow.
FIRST = ("task", "queue", "priority", "attempt", "max_retries", "worker_id")
APART = ("id", "status", "attempts", "timeline", "progress", "error")
JSON_FIELDS = ("payload", "result", "metadata")
TIMES = ("created_at", "schedule_at", "queued_at", "started_at", "completed_at")
#: Shown without --full: lines of a traceback, lines of an error, and rows of attempts and stages.
MOST_LINES, MOST_ERROR, MOST_ROWS = 14, 4, 12
#: Characters of such a line.
WIDEST = 150
_FRAME = re.compile('  File "(?P<file>.*)", line ')


def job(document: dict[str, Any], *, full: bool = False) -> Group:
    """Return the view of one job; with `full`, all rows and every traceback."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    others = [name for name in document if name not in FIRST and name not in APART]
    for name in [*(n for n in FIRST if n in document), *others]:
        grid.add_row(styled(f"  {name}"), styled(_value(name, document[name])))
    if "progress" in document:
        grid.add_row("  progress", styled(_progress(document["progress"])))
    if "error" in document:
        grid.add_row("  error", styled(_cut(document["error"], MOST_ERROR, full=full), "red"))
    parts: list[RenderableType] = [Text.assemble(styled(f"job {document['id']} "), coloured(document["status"])), grid]
    return Group(*parts, *_timeline(document.get("timeline", []), full), *_attempts(document["attempts"], full))


def _value(name: str, value: Any) -> str:
    if name in JSON_FIELDS:
        return brief(value)
    return moment(value, fine=True) if name in TIMES else str(value)


def _progress(progress: dict[str, Any]) -> str:
    message = str(progress.get("message", ""))
    attempt = f" (attempt {progress['attempt']})" if "attempt" in progress else ""
    return f"{progress.get('fraction', 0):.0%} {message}".rstrip() + attempt


def _timeline(stages: list[dict[str, Any]], full: bool) -> Iterator[RenderableType]:
    if not stages:
        return
    table = table_of("since", "state", "for", "")
    shown = stages if full else stages[-MOST_ROWS:]
    for stage in shown:
        ongoing = "" if "until" in stage else " so far"
        what = f"attempt {stage['attempt']}: {stage['why']}" if "attempt" in stage else stage["why"]
        row = moment(stage["since"], fine=True), coloured(stage["state"]), duration_text(stage["seconds"]) + ongoing
        table.add_row(*row, styled(in_text(what)))
    yield from _under(f"timeline ({zone_name()})", table, len(stages) - len(shown), "earlier stages")


def _attempts(attempts: list[dict[str, Any]], full: bool) -> Iterator[RenderableType]:
    if not attempts:
        return
    table = table_of("attempt", "worker", "outcome", "error")
    shown = attempts if full else attempts[-MOST_ROWS:]
    for attempt in shown:
        times = attempt.get("snoozes", 1)
        outcome = str(attempt.get("outcome", "running")) + (f" ({times} times)" if times > 1 else "")
        error = _cut(attempt.get("error", ""), 1, full=full)
        names = (clean_line(str(attempt["attempt"])), clean_line(str(attempt["worker_id"])), clean_line(outcome))
        table.add_row(*names, styled(error))
    yield from _under("attempts", table, len(attempts) - len(shown), "earlier attempts")
    failed = [attempt for attempt in attempts if "traceback" in attempt]
    for attempt in failed if full else failed[-1:]:
        text = attempt["traceback"] if full else _last_frames(attempt["traceback"])
        yield ""
        yield styled(f"traceback of attempt {attempt['attempt']}")
        yield Padding(styled(text), (0, 0, 0, 2), expand=False)
    if len(failed) > 1 and not full:
        yield Text("  --full shows those of the other attempts, too", "dim")


def _under(title: str, table: Table, missing: int, what: str) -> Iterator[RenderableType]:
    yield ""
    yield title + (f" (without {missing} {what}; --full shows them)" if missing > 0 else "")
    yield Padding(table, (0, 0, 0, 2), expand=False)


def _last_frames(text: str) -> str:
    """Return the end of a traceback, from the beginning of a frame on, after a line about the lines left out."""
    lines = [line if len(line) <= WIDEST else f"{line[:WIDEST]} ..." for line in text.splitlines()]
    if len(lines) <= MOST_LINES:
        return "\n".join(lines)
    end = range(len(lines) - MOST_LINES, len(lines))
    kept = next((number for number in end if _FRAME.match(lines[number])), end.start)
    return "\n".join([f"... {kept} lines above (--full shows them)", *lines[kept:]])


def _cut(text: str, most: int, *, full: bool) -> str:
    """Return at most `most` lines of a usual length, or everything with `full`."""
    whole = "\n".join(clean(text).strip().splitlines())
    if full:
        return whole
    shown = "\n".join(whole.split("\n")[:most])[: WIDEST * most]
    return shown if shown == whole else f"{shown} ..."
