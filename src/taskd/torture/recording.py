"""Writes PostgreSQL's part of a history: the audit tables, the jobs and the schedules, as lines of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import LiteralString

import psycopg

from taskd.store.pinned import ENCODING

#: Rows fetched at once, so that a big run need not fit into memory.
_BATCH = 5000

#: Commit times are present only if the server keeps them (`track_commit_timestamp`).
_EVENTS: LiteralString = """
    SELECT job_id, version, from_status, to_status, task, queue, priority, attempt, worker_id, session_id, dispatch_seq, epoch,
           failures, crashes, losses, extract(epoch FROM schedule_at) AS schedule_at, dedupe_key, by, xid::text::bigint AS xid,
           extract(epoch FROM statement_at) AS statement_at, extract(epoch FROM at) AS at,
           CASE WHEN current_setting('track_commit_timestamp')::bool
                THEN extract(epoch FROM pg_xact_commit_timestamp(xid::xid)) END AS committed
    FROM taskd.job_events e WHERE %(queues)s::text[] IS NULL OR queue = ANY (%(queues)s) ORDER BY e.xid, e.at"""
_TERMS: LiteralString = """
    SELECT shard, shards, epoch, holder, instance_id, what, xid::text::bigint AS xid, extract(epoch FROM at) AS at
    FROM taskd.term_events t ORDER BY t.at"""
_SESSIONS: LiteralString = """
    SELECT session_id, worker_id, what, extract(epoch FROM expires_at) AS expires_at, by, extract(epoch FROM at) AS at
    FROM taskd.session_events s
    WHERE %(queues)s::text[] IS NULL
       OR session_id IN (SELECT e.session_id FROM taskd.job_events e WHERE e.queue = ANY (%(queues)s))
    ORDER BY s.at"""
_OUTPUTS: LiteralString = """
    SELECT job_id, attempt, by, extract(epoch FROM statement_at) AS statement_at FROM taskd.output_events o
    WHERE %(queues)s::text[] IS NULL
       OR job_id IN (SELECT e.job_id FROM taskd.job_events e WHERE e.queue = ANY (%(queues)s))
    ORDER BY o.at"""
_JOBS: LiteralString = """
    SELECT id, status, task, queue, priority, attempt, worker_id, failures, crashes, losses, max_retries, backoff, dedupe_key,
           extract(epoch FROM schedule_at) AS schedule_at, extract(epoch FROM created_at) AS created_at,
           NULL::numeric AS completed_at, NULL::json AS result, error, parent_id,
           metadata ->> 'schedule' AS schedule, metadata ->> 'fire_at' AS fire_at, NULL::json AS progress
    FROM taskd.jobs WHERE %(queues)s::text[] IS NULL OR queue = ANY (%(queues)s)
    UNION ALL
    SELECT id, status, task, queue, priority, attempt, worker_id, failures, crashes, losses, max_retries, backoff, dedupe_key,
           extract(epoch FROM schedule_at), extract(epoch FROM created_at), extract(epoch FROM completed_at), result, error,
           parent_id, metadata ->> 'schedule', metadata ->> 'fire_at', progress
    FROM taskd.finished_jobs WHERE %(queues)s::text[] IS NULL OR queue = ANY (%(queues)s)"""
_SCHEDULES: LiteralString = """
    SELECT name, cron, every, tz, missed, catch_up, overlap, revision, extract(epoch FROM anchor) AS anchor,
           extract(epoch FROM decided_until) AS decided_until, extract(epoch FROM paused_at) AS paused_at,
           extract(epoch FROM created_at) AS created_at
    FROM taskd.schedules WHERE %(queues)s::text[] IS NULL OR queue = ANY (%(queues)s) ORDER BY name"""
_FIRES: LiteralString = """
    SELECT schedule, extract(epoch FROM fire_at) AS fire_at, extract(epoch FROM fired_at) AS fired_at, state, job_id
    FROM taskd.fires
    WHERE %(queues)s::text[] IS NULL OR schedule IN (SELECT name FROM taskd.schedules WHERE queue = ANY (%(queues)s))
    ORDER BY schedule, taskd.fires.fire_at"""

_FILES: dict[str, LiteralString] = {
    "events.ndjson": _EVENTS,
    "terms.ndjson": _TERMS,
    "sessions.ndjson": _SESSIONS,
    "outputs.ndjson": _OUTPUTS,
    "jobs.ndjson": _JOBS,
    "schedules.ndjson": _SCHEDULES,
    "fires.ndjson": _FIRES,
}


def record(dsn: str, folder: Path, queues: Sequence[str] | None = None) -> None:
    """Write events, terms, sessions, outputs, jobs and schedules into `folder`, all as of one moment. Raises psycopg.Error.

    With `queues`, only their jobs and schedules, and the sessions that ran them; terms are the cluster's.
    """
    with psycopg.connect(dsn, connect_timeout=5, application_name="taskd:record", **ENCODING) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        for name, query in _FILES.items():
            _write(connection, query, folder / name, {"queues": list(queues) if queues else None})


def _write(
    connection: psycopg.Connection[tuple[str]], query: LiteralString, path: Path, only: dict[str, list[str] | None]
) -> None:
    # A result keeps the line breaks of its task's JSON between the values; strings inside it hold none.
    lines: LiteralString = "SELECT translate(row_to_json(r)::text, E'\\n\\r', '  ') FROM ("
    with connection.cursor(name="record") as cursor, path.open("w", encoding="utf-8") as file:
        cursor.itersize = _BATCH
        cursor.execute(lines + query + ") r", only)
        for (line,) in cursor:
            file.write(line)
            file.write("\n")
