"""Jobs, clusters, schedules, tokens and the live configuration as text."""

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
    """Return jobs, one a line."""
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
    for job in page:
        fields = (job["task"], job["queue"], job["priority"], job["attempt"], moment(job["created_at"]))
        sheet.add_row(job["id"], coloured(job["status"]), *fields, error_line(job.get("error")))
    return sheet


def config(document: dict[str, Any]) -> Group:
    """Return the live configuration: the values that are set, then the keys that may be set."""
    author = f", made by {document['who']} at {moment(document['at'])}" if document["version"] else ""
    parts: list[RenderableType] = [styled(f"version {document['version']}{author}")]
    sheet = Sheet(Column("key", least=30), Column("value", least=20))
    for key, value in sorted(document["values"].items()):
        sheet.add_row(key, brief(value))
    parts.append(sheet if document["values"] else "  nothing is set: each process's own settings apply")
    keys = table_of("keys", "meaning")
    for row in document["keys"]:
        keys.add_row(row["key"], row["meaning"])
    return Group(*parts, "", keys)


def versions(rows: list[dict[str, Any]]) -> Sheet:
    """Return versions of the live configuration, one a line."""
    sheet = Sheet("version", Column("at", least=20), Column("by", least=12), Column("what", least=20))
    for row in rows:
        sheet.add_row(row["version"], moment(row["at"]), row["who"], row["what"])
    return sheet


def tokens(rows: list[dict[str, Any]]) -> Sheet:
    """Return tokens, one a line."""
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
    for row in rows:
        holds = Text("yes", "green") if row["holds"] else Text("no", "red")
        rights = (",".join(row["scopes"]), ",".join(row["queues"] or ["all"]), row["rate"] or "")
        ends = moment(row["expires_at"]) if row["expires_at"] else "never"
        revoked = moment(row["revoked_at"]) if row["revoked_at"] else ""
        made = (moment(row["created_at"]), row["created_by"])
        sheet.add_row(row["id"], row["name"], holds, *rights, *made, ends, revoked)
    return sheet


def schedules(rows: list[dict[str, Any]]) -> Sheet:
    """Return schedules, one a line."""
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
    for row in rows:
        coming = moment(row["next_at"]) if row["next_at"] else f"paused by {row['paused_by']}"
        fields = (row["job"]["task"], row["job"]["queue"], coming, row["missed"], row["overlap"], row.get("app", ""))
        sheet.add_row(row["name"], _times(row), row["tz"], *fields)
    return sheet


def schedule(document: dict[str, Any]) -> Group:
    """Return one schedule, field by field, then its last ticks."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    apart = ("name", "job", "fires", *(() if document["next_at"] else ("next_at",)))  # none is next if it is paused
    shown = {**{k: v for k, v in document.items() if k not in apart}, **document["job"]}
    for name, value in shown.items():
        grid.add_row(styled(f"  {name}"), _field(name, value))
    sheet = Sheet(Column("tick", least=20), Column("decided", least=20), "state", Column("job", least=20))
    for fire in document["fires"]:
        at = (moment(fire[key]) if fire[key] else "" for key in ("fire_at", "fired_at"))
        sheet.add_row(*at, fire["state"] or "", fire["job_id"] or "")
    return Group(styled(f"schedule {document['name']}"), grid, *([sheet] if document["fires"] else []))


def _field(name: str, value: Any) -> str:
    if isinstance(value, dict) or name == "payload":
        return brief(value)
    return moment(value) if name.endswith("_at") and value else str(value)


def _times(schedule: dict[str, Any]) -> str:
    return str(schedule["cron"]) if "cron" in schedule else f"every {schedule['every']:g} s"


def findings(diagnoses: list[Diagnosis]) -> Table:
    """Return the doctor's findings, one a line."""
    signs = {"ok": Text("ok", "green"), "note": Text("note", "yellow"), "wrong": Text("wrong", "red")}
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for diagnosis in diagnoses:
        advice = f" -> {diagnosis.advice}" if diagnosis.advice else ""
        table.add_row(signs[diagnosis.level], styled(diagnosis.subject), styled(diagnosis.text + advice))
    return table


def cluster(document: dict[str, Any]) -> Group:
    """Return the cluster: health, schedulers, workers, queues and counts of jobs."""
    return Group(
        *_health(document["health"], document["leader"]),
        *_schedulers(document["schedulers"]),
        *_workers(document["workers"]),
        *_queues(document["queues"], document["metrics"]),
    )


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


def _schedulers(document: dict[str, Any] | None) -> Iterator[RenderableType]:
    if document is None:
        return
    sheet = Sheet(
        Column("scheduler", least=16),
        Column("address", least=24),
        Column("host", 2),
        Column("pid", 3),
        Column("since", 1, least=20),
    )
    for row in document["schedulers"]:
        since = moment(row["started_at"]) if "started_at" in row else ""
        sheet.add_row(*(row.get(name, "") for name in ("id", "address", "host", "pid")), since)
    yield from _noted(sheet, document.get("note"), "no scheduler is registered")


def _workers(document: dict[str, Any] | None) -> Iterator[RenderableType]:
    if document is None:
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
    for row in document["workers"]:
        busy = row.get("stats", {}).get("running", "")
        fields = (row["id"], row["slots"], f"{busy:g}" if busy != "" else "", ",".join(row["queues"]))
        sheet.add_row(*fields, row.get("address", ""), row["host"], row["pid"])
    yield from _noted(sheet, document.get("note"), "no worker is registered: start one with taskd worker")


def _queues(document: dict[str, Any] | None, counts: dict[str, Any] | None) -> Iterator[RenderableType]:
    if document is not None and document["queues"]:
        names = ("queue", "pending", "queued", "running", "workers", "slots")
        sheet = Sheet(Column("queue", least=16), *names[1:])
        for row in document["queues"]:
            sheet.add_row(*(row[name] for name in names))
        yield sheet
    if counts is not None:
        names = ("pending", "queued", "running", "completed", "failed", "cancelled")
        yield "jobs  " + "  ".join(f"{counts[f'{name}_jobs']} {name}" for name in names)


def _noted(sheet: Sheet, note: str | None, empty: str) -> Iterator[RenderableType]:
    yield sheet if len(sheet) else Text(empty, "yellow")
    if note:
        yield styled(in_text(note), "yellow")


def table_of(*columns: str) -> Table:
    """Return a table whose last column wraps."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    return table


def coloured(status: str) -> Text:
    """Return a status in its colour."""
    return styled(clean_line(str(status)), COLOURS.get(status, ""))
