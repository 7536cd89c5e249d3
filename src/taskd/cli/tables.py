"""Jobs and clusters as text for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from taskd.cli.moments import in_text, moment
from taskd.cli.output import brief
from taskd.cli.sheet import Column, Sheet
from taskd.domain.diagnosis import Diagnosis
from taskd.domain.errors import error_line
from taskd.runtime.console import styled
from taskd.runtime.terminal import clean_line

COLOURS = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "healthy": "green",
    "degraded": "yellow",
    "unhealthy": "red",
}


def jobs(page: list[dict[str, Any]]) -> Sheet:
    """Jobs, one a line."""
    sheet = Sheet(
        Column("id", least=20),
        Column("status", least=9),
        Column("task", 1, least=12),
        Column("queue", 3, least=10),
        Column("prio", 5),
        Column("try", 4),
        Column("created", 2, least=20),
        Column("error", least=20),
    )
    for one in page:
        what = (one["task"], one["queue"], one["priority"], one["attempt"], moment(one["created_at"]))
        sheet.add_row(one["id"], coloured(one["status"]), *what, error_line(one.get("error")))
    return sheet


def live(found: dict[str, Any]) -> Group:
    """What is set, then what could be."""
    made = f", made by {found['who']} at {moment(found['at'])}" if found["version"] else ""
    parts: list[RenderableType] = [styled(f"version {found['version']}{made}")]
    sheet = Sheet(Column("key", least=30), Column("value", least=20))
    for key, value in sorted(found["values"].items()):
        sheet.add_row(key, brief(value))
    parts.append(sheet if found["values"] else "  nothing is set: each process's own settings hold")
    keys = table_of("keys", "meaning")
    for one in found["keys"]:
        keys.add_row(one["key"], one["meaning"])
    return Group(*parts, "", keys)


def versions(found: list[dict[str, Any]]) -> Sheet:
    """Versions of the live configuration, one a line."""
    sheet = Sheet("version", Column("at", least=20), Column("by", least=12), Column("what", least=20))
    for one in found:
        sheet.add_row(one["version"], moment(one["at"]), one["who"], one["what"])
    return sheet


def tokens(found: list[dict[str, Any]]) -> Sheet:
    """Tokens, one a line."""
    sheet = Sheet(
        Column("id", least=12),
        Column("name", least=12),
        Column("holds"),
        Column("scopes", least=14),
        Column("queues", 1, least=8),
        Column("rate", 3),
        Column("made", 4, least=20),
        Column("by", 5),
        Column("ends", 2, least=20),
        Column("revoked", 6, least=20),
    )
    for one in found:
        holds = Text("yes", "green") if one["holds"] else Text("no", "red")
        what = (",".join(one["scopes"]), ",".join(one["queues"] or ["all"]), one["rate"] or "")
        ends = moment(one["expires_at"]) if one["expires_at"] else "never"
        revoked = moment(one["revoked_at"]) if one["revoked_at"] else ""
        sheet.add_row(one["id"], one["name"], holds, *what, moment(one["created_at"]), one["created_by"], ends, revoked)
    return sheet


def schedules(found: list[dict[str, Any]]) -> Sheet:
    """Schedules, one a line."""
    sheet = Sheet(
        Column("name", least=12),
        Column("when", least=12),
        Column("zone", least=13),
        Column("task", 1, least=8),
        Column("queue", 3, least=8),
        Column("next", least=20),
        Column("missed", 5),
        Column("overlap", 4),
        Column("app", 2, least=8),
    )
    for one in found:
        coming = moment(one["next_at"]) if one["next_at"] else f"paused by {one['paused_by']}"
        what = (one["job"]["task"], one["job"]["queue"], coming, one["missed"], one["overlap"], one.get("app", ""))
        sheet.add_row(one["name"], _when(one), one["tz"], *what)
    return sheet


def schedule(found: dict[str, Any]) -> Group:
    """One schedule, field by field, then its last ticks."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    apart = ("name", "job", "fires", *(() if found["next_at"] else ("next_at",)))  # none is next if it is paused
    shown = {**{k: v for k, v in found.items() if k not in apart}, **found["job"]}
    for name, value in shown.items():
        grid.add_row(styled(f"  {name}"), _field(name, value))
    sheet = Sheet(Column("tick", least=20), Column("decided", least=20), "state", Column("job", least=20))
    for fire in found["fires"]:
        at = (moment(fire[key]) if fire[key] else "" for key in ("fire_at", "fired_at"))
        sheet.add_row(*at, fire["state"] or "", fire["job_id"] or "")
    return Group(styled(f"schedule {found['name']}"), grid, *([sheet] if found["fires"] else []))


def _field(name: str, value: Any) -> str:
    if isinstance(value, dict) or name == "payload":
        return brief(value)
    return moment(value) if name.endswith("_at") and value else str(value)


def _when(one: dict[str, Any]) -> str:
    return str(one["cron"]) if "cron" in one else f"every {one['every']:g} s"


def findings(found: list[Diagnosis]) -> Table:
    """What the doctor found, one a line."""
    signs = {"ok": Text("ok", "green"), "note": Text("note", "yellow"), "wrong": Text("wrong", "red")}
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in found:
        advice = f" -> {one.advice}" if one.advice else ""
        table.add_row(signs[one.level], styled(one.subject), styled(one.text + advice))
    return table


def cluster(seen: dict[str, Any]) -> Group:
    """Health first, then who is there and what they have to do."""
    parts = [*_health(seen["health"], seen["leader"]), *_schedulers(seen["schedulers"]), *_workers(seen["workers"])]
    return Group(*parts, *_queues(seen["queues"], seen["metrics"]))


def _health(health: dict[str, Any], leader: dict[str, Any] | None) -> Iterator[RenderableType]:
    yield Text.assemble("cluster ", coloured(health["status"]), styled(f", seen by {health['instance_id']}"))
    for name, component in health["components"].items():
        state = Text("ok", "green") if component["ok"] else Text("away", "red")
        detail = f"  {component['detail']}" if component.get("detail") else ""
        yield Text.assemble(styled(f"  {name:<10}"), state, styled(detail))
    holder = (leader or {}).get("current_leader")
    epoch = f" (epoch {leader['epoch']})" if leader and holder and "epoch" in leader else ""
    yield Text.assemble(f"  {'leader':<10}", _leading(holder), styled(epoch))
    shards = (leader or {}).get("shards", [])
    for name in dict.fromkeys(shard["current_leader"] for shard in shards):
        led = ", ".join(str(shard["shard"]) for shard in shards if shard["current_leader"] == name)
        yield Text.assemble(f"  {'shards':<10}", _leading(name), styled(f": {led}"))


def _leading(name: str | None) -> Text:
    return styled(name) if name else Text("none", "yellow")


def _schedulers(found: dict[str, Any] | None) -> Iterator[RenderableType]:
    if found is None:
        return
    sheet = Sheet(
        Column("scheduler", least=16),
        Column("address", least=24),
        Column("host", 2),
        Column("pid", 3),
        Column("since", 1, least=20),
    )
    for one in found["schedulers"]:
        since = moment(one["started_at"]) if "started_at" in one else ""
        sheet.add_row(*(one.get(name, "") for name in ("id", "address", "host", "pid")), since)
    yield from _noted(sheet, found.get("note"), "no scheduler is registered")


def _workers(found: dict[str, Any] | None) -> Iterator[RenderableType]:
    if found is None:
        return
    sheet = Sheet(
        Column("worker", least=16),
        "slots",
        "busy",
        "queues",
        Column("address", 1, 24),
        Column("host", 2),
        Column("pid", 3),
    )
    for one in found["workers"]:
        busy = one.get("stats", {}).get("running", "")
        shown = (one["id"], one["slots"], f"{busy:g}" if busy != "" else "", ",".join(one["queues"]))
        sheet.add_row(*shown, one.get("address", ""), one["host"], one["pid"])
    yield from _noted(sheet, found.get("note"), "no worker is registered: start one with taskd worker")


def _queues(found: dict[str, Any] | None, counts: dict[str, Any] | None) -> Iterator[RenderableType]:
    if found is not None and found["queues"]:
        names = ("queue", "pending", "queued", "running", "workers", "slots")
        sheet = Sheet(Column("queue", least=16), *names[1:])
        for one in found["queues"]:
            sheet.add_row(*(one[name] for name in names))
        yield sheet
    if counts is not None:
        names = ("pending", "queued", "running", "completed", "failed", "cancelled")
        yield "jobs  " + "  ".join(f"{counts[f'{name}_jobs']} {name}" for name in names)


def _noted(sheet: Sheet, note: str | None, empty: str) -> Iterator[RenderableType]:
    yield sheet if len(sheet) else Text(empty, "yellow")
    if note:
        yield styled(in_text(note), "yellow")


def table_of(*columns: str) -> Table:
    """A table whose last column wraps."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    return table


def coloured(status: str) -> Text:
    """A status in its colour."""
    return styled(clean_line(str(status)), COLOURS.get(status, ""))
