"""The contents of the three servers: rows, entries, keys."""

from __future__ import annotations

import httpx
import psycopg

from tests.chaos.world import World

MEGA = 1024 * 1024
#: The range from the first key to the last, in etcd's JSON.
EVERY_KEY = {"key": "AA==", "range_end": "AA==", "count_only": True}

FIGURES = """
SELECT (SELECT count(*) FROM taskd.jobs),
       (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'taskd.jobs'::regclass),
       pg_total_relation_size('taskd.jobs')::float8,
       pg_total_relation_size('taskd.finished_jobs')::float8,
       (SELECT count(*) FROM taskd.sessions),
       (SELECT count(*) FROM taskd.finished_counts),
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       (SELECT coalesce(sum(n), 0)::bigint FROM taskd.finished_counts)
"""
NAMES = (
    "live jobs",
    "dead rows",
    "jobs table, MB",
    "finished table, MB",
    "sessions",
    "counter rows",
    "connections",
    "finished",
)


class Stores:
    """Figures of a world's servers, over separate connections, for one thread."""

    def __init__(self, world: World) -> None:
        self._postgres = psycopg.connect(world.postgres.dsn, autocommit=True, application_name="soak")
        self._redis = world.redis.connect()
        self._etcd = httpx.Client(base_url=f"http://{world.etcd.endpoint}", timeout=5)

    def close(self) -> None:
        """Close the connections."""
        self._postgres.close()
        self._redis.close()
        self._etcd.close()

    def figures(self) -> dict[str, float]:
        """Return all figures."""
        return {**self._rows(), **self._entries(), **self._keys()}

    def finished(self) -> int:
        """Return the number of final jobs."""
        return int(self._rows()["finished"])

    def left(self) -> dict[str, float]:
        """Return the numbers of live jobs and of stream entries."""
        return {"live jobs": self._rows()["live jobs"], "entries": self._entries()["stream entries"]}

    def ends(self) -> tuple[dict[str, int], int, int]:
        """Return the counted final jobs by status, the number of stored ones, and the highest id given."""
        counted = self._postgres.execute(
            "SELECT status, sum(n)::bigint FROM taskd.finished_counts GROUP BY 1"
        ).fetchall()
        (stored,) = self._postgres.execute("SELECT count(*) FROM taskd.finished_jobs").fetchone() or (0,)
        (ids,) = self._postgres.execute("SELECT last_value FROM taskd.job_ids").fetchone() or (0,)
        return {status: int(n) for status, n in counted}, int(stored), int(ids)

    def _rows(self) -> dict[str, float]:
        row = self._postgres.execute(FIGURES).fetchone()
        assert row is not None
        figures = dict(zip(NAMES, map(float, row), strict=True))
        return {name: value / MEGA if name.endswith(", MB") else value for name, value in figures.items()}

    def _entries(self) -> dict[str, float]:
        entries = pending = consumers = 0
        for key in self._redis.scan_iter(match="jobs:*", _type="stream"):
            entries += self._redis.xlen(key)
            groups = self._redis.xinfo_groups(key)
            pending += sum(group["pending"] for group in groups)
            consumers = max(consumers, *(group["consumers"] for group in groups), 0)
        memory = self._redis.info("memory")["used_memory"] / MEGA
        return {"stream entries": entries, "pending entries": pending, "consumers": consumers, "Redis data, MB": memory}

    def _keys(self) -> dict[str, float]:
        count = self._etcd.post("/v3/kv/range", json=EVERY_KEY).json().get("count", 0)
        size = self._etcd.post("/v3/maintenance/status", json={}).json()["dbSize"]
        return {"etcd keys": float(count), "etcd file, MB": float(size) / MEGA}
