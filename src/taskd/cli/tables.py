"""Jobs and clusters as text for people."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taskd.cli.output import brief

COLOURS = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "healthy": "green",
    "degraded": "yellow",
    "unhealthy": "red",
}
#: What a job shows first; whatever else it has follows.
FIRST = ("task", "queue", "priority", "attempt", "max_retries", "worker_id")
APART = ("id", "status", "attempts")
JSON_FIELDS = ("payload", "result", "progress", "metadata")


def show_job(console: Console, job: dict[str, Any]) -> None:
    """One job, field by field, then its attempts."""
    console.print(f"job {job['id']} {_coloured(job['status'])}")
    grid = Table.grid(padding=(0, 2))
    others = [name for name in job if name not in FIRST and name not in APART]
    for name in [*(n for n in FIRST if n in job), *others]:
        value = brief(job[name]) if name in JSON_FIELDS else str(job[name])
        grid.add_row(f"  {name}", escape(value))
    console.print(grid)
    if job["attempts"]:
        table = _table("attempt", "worker", "started", "ended", "outcome", "error")
        for one in job["attempts"]:
            names = ("attempt", "worker_id", "started_at", "ended_at", "outcome", "error")
            table.add_row(*(escape(str(one.get(name, ""))) for name in names))
        console.print(table)


def show_cluster(console: Console, seen: dict[str, Any]) -> None:
    """Health first, then who is there and what they have to do."""
    _show_health(console, seen["health"], seen["leader"])
    _show_schedulers(console, seen)
    _show_workers(console, seen["workers"])
    _show_queues(console, seen["queues"], seen["metrics"])


def _show_health(console: Console, health: dict[str, Any], leader: dict[str, Any] | None) -> None:
    console.print(f"cluster {_coloured(health['status'])}, seen by {escape(health['instance_id'])}")
    for name, component in health["components"].items():
        state = "[green]ok[/]" if component["ok"] else "[red]away[/]"
        detail = escape(component.get("detail", ""))
        console.print(f"  {name:<10}{state}  {detail}".rstrip())
    holder = (leader or {}).get("current_leader")
    epoch = f" (epoch {leader['epoch']})" if leader and holder and "epoch" in leader else ""
    console.print(f"  {'leader':<10}{escape(holder) if holder else '[yellow]none[/]'}{epoch}")


def _show_schedulers(console: Console, seen: dict[str, Any]) -> None:
    found = seen["schedulers"]
    if found is None:
        return
    table = _table("scheduler", "address", "host", "pid", "since")
    for one in found["schedulers"]:
        table.add_row(*(escape(str(one.get(n, ""))) for n in ("id", "address", "host", "pid", "started_at")))
    _print(console, table, found.get("note"), "no scheduler is registered")


def _show_workers(console: Console, found: dict[str, Any] | None) -> None:
    if found is None:
        return
    table = _table("worker", "slots", "busy", "queues", "address", "host", "pid")
    for one in found["workers"]:
        busy = one.get("stats", {}).get("running", "")
        shown = (one["id"], one["slots"], f"{busy:g}" if busy != "" else "", ",".join(one["queues"]))
        table.add_row(*(escape(str(v)) for v in (*shown, one.get("address", ""), one["host"], one["pid"])))
    _print(console, table, found.get("note"), "no worker is registered: start one with taskd worker")


def _show_queues(console: Console, found: dict[str, Any] | None, counts: dict[str, Any] | None) -> None:
    if found is not None and found["queues"]:
        table = _table("queue", "pending", "queued", "running", "workers", "slots")
        for one in found["queues"]:
            names = ("queue", "pending", "queued", "running", "workers", "slots")
            table.add_row(*(escape(str(one[name])) for name in names))
        console.print(table)
    if counts is not None:
        names = ("pending", "queued", "running", "completed", "failed", "cancelled")
        console.print("jobs  " + "  ".join(f"{counts[f'{name}_jobs']} {name}" for name in names))


def _print(console: Console, table: Table, note: str | None, empty: str) -> None:
    if table.row_count:
        console.print(table)
    else:
        console.print(f"[yellow]{empty}[/]")
    if note:
        console.print(f"[yellow]{escape(note)}[/]")


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _coloured(status: str) -> str:
    colour = COLOURS.get(status)
    return f"[{colour}]{escape(status)}[/]" if colour else escape(status)
