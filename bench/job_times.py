"""The times at which jobs were submitted, dispatched and started, as PostgreSQL stores them."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from bench.rig import Rig, until

Figures = dict[str, float]

#: Selects the milliseconds between two times of finished jobs, by PostgreSQL's clock.
INTERVALS = """
SELECT extract(epoch FROM {end} - {start})::float8 * 1000 FROM taskd.finished_jobs WHERE id > %s AND started_at IS NOT NULL
"""


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile of sorted figures."""
    return values[min(len(values) - 1, len(values) * percent // 100)]


def between(cluster: Rig, after: int, start: str, end: str) -> list[float]:
    """Return the sorted milliseconds between two times of the jobs with ids above `after`."""
    with psycopg.connect(cluster.dsn) as connection:
        rows = connection.execute(INTERVALS.format(start=start, end=end).encode(), [after]).fetchall()
    return sorted(float(row[0]) for row in rows)


def last_id(cluster: Rig) -> int:
    """Return the highest id given so far."""
    with psycopg.connect(cluster.dsn) as connection:
        row = connection.execute("SELECT last_value FROM taskd.job_ids").fetchone()
    assert row is not None
    return int(row[0])


def settled(cluster: Rig) -> None:
    """Wait until no live job is left."""
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        until(lambda: connection.execute("SELECT 1 FROM taskd.jobs LIMIT 1").fetchone() is None)
