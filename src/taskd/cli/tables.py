"""Jobs and clusters as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from taskd.cli.output import brief
from taskd.domain.finding import Finding

COLOURS = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "healthy": "green",
    "degraded": "yellow",
    "unhealthy": "red",
}


def jobs(page: list[dict[str, Any]]) -> Table:
    """Jobs, one a line."""
    table = table_of("id", "status", "task", "queue", "priority", "attempt", "created", "error")
    for one in page:
        told = str(one.get("error", "")).strip().splitlines()
        row = (one["task"], one["queue"], one["priority"], one["attempt"], one["created_at"], told[-1] if told else "")
        table.add_row(str(one["id"]), coloured(one["status"]), *(escape(str(value)) for value in row))
    return table


def live(found: dict[str, Any]) -> Group:
    """What is set, then what could be."""
    made = f", made by {found['who']} at {found['at']}" if found["version"] else ""
    parts: list[RenderableType] = [escape(f"version {found['version']}{made}")]
    table = table_of("key", "value")
    for key, value in sorted(found["values"].items()):
        table.add_row(escape(key), escape(brief(value)))
    parts.append(table if found["values"] else "  nothing is set: each process's own settings hold")
    keys = table_of("keys", "meaning")
    for one in found["keys"]:
        keys.add_row(escape(one["key"]), escape(one["meaning"]))
    return Group(*parts, "", keys)


def versions(found: list[dict[str, Any]]) -> Table:
    """Versions of the live configuration, one a line."""
    table = table_of("version", "at", "by", "what")
    for one in found:
        table.add_row(str(one["version"]), *(escape(str(one[name])) for name in ("at", "who", "what")))
    return table


def tokens(found: list[dict[str, Any]]) -> Table:
    """Tokens, one a line."""
    table = table_of("id", "name", "holds", "scopes", "queues", "rate", "made", "by", "ends", "revoked")
    for one in found:
        holds = "[green]yes[/]" if one["holds"] else "[red]no[/]"
        what = (",".join(one["scopes"]), ",".join(one["queues"] or ["all"]), one["rate"] or "")
        when = (one["created_at"], one["created_by"], one["expires_at"] or "never", one["revoked_at"] or "")
        table.add_row(one["id"], escape(one["name"]), holds, *(escape(str(value)) for value in (*what, *when)))
    return table


def schedules(found: list[dict[str, Any]]) -> Table:
    """Schedules, one a line."""
    table = table_of("name", "when", "zone", "task", "queue", "next", "missed", "overlap", "app")
    for one in found:
        coming = one["next_at"] or f"paused by {one['paused_by']}"
        what = (one["job"]["task"], one["job"]["queue"], coming, one["missed"], one["overlap"], one.get("app", ""))
        table.add_row(*(escape(str(value)) for value in (one["name"], _when(one), one["tz"], *what)))
    return table


def schedule(found: dict[str, Any]) -> Group:
    """One schedule, field by field, then its last ticks."""
    grid = Table.grid(padding=(0, 2))
    apart = ("name", "job", "fires", *(() if found["next_at"] else ("next_at",)))  # none is next if it is paused
    shown = {**{k: v for k, v in found.items() if k not in apart}, **found["job"]}
    for name, value in shown.items():
        grid.add_row(f"  {name}", escape(brief(value) if isinstance(value, dict) or name == "payload" else str(value)))
    table = table_of("tick", "decided", "state", "job")
    for fire in found["fires"]:
        table.add_row(*(str(fire[key] or "") for key in ("fire_at", "fired_at", "state", "job_id")))
    return Group(f"schedule {escape(found['name'])}", grid, *([table] if found["fires"] else []))


def _when(one: dict[str, Any]) -> str:
    return str(one["cron"]) if "cron" in one else f"every {one['every']:g} s"


def findings(found: list[Finding]) -> Table:
    """What the doctor found, one a line."""
    signs = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "wrong": "[red]wrong[/]"}
    table = Table(box=None, pad_edge=False, show_header=False)
    for one in found:
        mend = f" -> {one.mend}" if one.mend else ""
        table.add_row(signs[one.level], escape(one.subject), escape(one.text + mend))
    return table


def cluster(seen: dict[str, Any]) -> Group:
    """Health first, then who is there and what they have to do."""
    parts = [*_health(seen["health"], seen["leader"]), *_schedulers(seen["schedulers"]), *_workers(seen["workers"])]
    return Group(*parts, *_queues(seen["queues"], seen["metrics"]))


def _health(health: dict[str, Any], leader: dict[str, Any] | None) -> Iterator[RenderableType]:
    yield f"cluster {coloured(health['status'])}, seen by {escape(health['instance_id'])}"
    for name, component in health["components"].items():
        state = "[green]ok[/]" if component["ok"] else "[red]away[/]"
        detail = escape(component.get("detail", ""))
        yield f"  {name:<10}{state}  {detail}".rstrip()
    holder = (leader or {}).get("current_leader")
    epoch = f" (epoch {leader['epoch']})" if leader and holder and "epoch" in leader else ""
    yield f"  {'leader':<10}{escape(holder) if holder else '[yellow]none[/]'}{epoch}"
    shards = (leader or {}).get("shards", [])
    for name in dict.fromkeys(shard["current_leader"] for shard in shards):
        led = ", ".join(str(shard["shard"]) for shard in shards if shard["current_leader"] == name)
        yield f"  {'shards':<10}{escape(name) if name else '[yellow]none[/]'}: {led}"


def _schedulers(found: dict[str, Any] | None) -> Iterator[RenderableType]:
    if found is None:
        return
    table = table_of("scheduler", "address", "host", "pid", "since")
    for one in found["schedulers"]:
        table.add_row(*(escape(str(one.get(n, ""))) for n in ("id", "address", "host", "pid", "started_at")))
    yield from _noted(table, found.get("note"), "no scheduler is registered")


def _workers(found: dict[str, Any] | None) -> Iterator[RenderableType]:
    if found is None:
        return
    table = table_of("worker", "slots", "busy", "queues", "address", "host", "pid")
    for one in found["workers"]:
        busy = one.get("stats", {}).get("running", "")
        shown = (one["id"], one["slots"], f"{busy:g}" if busy != "" else "", ",".join(one["queues"]))
        table.add_row(*(escape(str(v)) for v in (*shown, one.get("address", ""), one["host"], one["pid"])))
    yield from _noted(table, found.get("note"), "no worker is registered: start one with taskd worker")


def _queues(found: dict[str, Any] | None, counts: dict[str, Any] | None) -> Iterator[RenderableType]:
    if found is not None and found["queues"]:
        table = table_of("queue", "pending", "queued", "running", "workers", "slots")
        for one in found["queues"]:
            names = ("queue", "pending", "queued", "running", "workers", "slots")
            table.add_row(*(escape(str(one[name])) for name in names))
        yield table
    if counts is not None:
        names = ("pending", "queued", "running", "completed", "failed", "cancelled")
        yield "jobs  " + "  ".join(f"{counts[f'{name}_jobs']} {name}" for name in names)


def _noted(table: Table, note: str | None, empty: str) -> Iterator[RenderableType]:
    yield table if table.row_count else f"[yellow]{empty}[/]"
    if note:
        yield f"[yellow]{escape(note)}[/]"


def table_of(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def coloured(status: str) -> str:
    colour = COLOURS.get(status)
    return f"[{colour}]{escape(status)}[/]" if colour else escape(status)
