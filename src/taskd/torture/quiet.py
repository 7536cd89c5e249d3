"""The quiet state at the end of a run: no live job is left, and Redis holds no more entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg
import redis

from taskd.store.pinned import ENCODING
from taskd.torture.history import RedisLeft

PATIENCE = 2


def is_quiet(
    dsn: str, connect: Callable[[], redis.Redis], *, prefix: str = "jobs", queues: Sequence[str] | None = None
) -> bool:
    """Return True if nothing is left of these queues, or of all; False while a server does not answer."""
    try:
        return live_jobs(dsn, queues) == 0 and redis_left(connect, prefix=prefix, queues=queues) == RedisLeft(0, 0)
    except (psycopg.OperationalError, redis.RedisError):
        return False


def live_jobs(dsn: str, queues: Sequence[str] | None = None) -> int:
    """Return the number of jobs that are not final yet. Raises psycopg.Error."""
    with psycopg.connect(dsn, connect_timeout=PATIENCE, application_name="taskd:quiet", **ENCODING) as connection:
        query = "SELECT count(*) FROM taskd.jobs WHERE %(queues)s::text[] IS NULL OR queue = ANY (%(queues)s)"
        row = connection.execute(query, {"queues": list(queues) if queues else None}).fetchone()
    assert row is not None
    return int(row[0])


def redis_left(
    connect: Callable[[], redis.Redis], *, prefix: str = "jobs", queues: Sequence[str] | None = None
) -> RedisLeft:
    """Return the numbers of entries and of pending entries in Redis's streams. Raises redis.RedisError."""
    entries = pending = 0
    with connect() as client:
        for queue in queues or ("*",):
            for key in client.scan_iter(match=f"{prefix}:{{{queue}}}:*", _type="stream"):
                entries += client.xlen(key)
                pending += sum(group["pending"] for group in client.xinfo_groups(key))
    return RedisLeft(entries, pending)
