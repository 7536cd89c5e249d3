"""Looks at the cluster while it suffers: a thread that asks PostgreSQL again and again, and takes no answer for an answer."""

from __future__ import annotations

import threading
from typing import Any, LiteralString

import msgspec
import psycopg

#: Seconds between two looks.
EVERY = 0.5
#: Milliseconds that a look may take.
DEADLINE = 2000

_JOBS: LiteralString = """
    SELECT (SELECT count(*) FROM taskd.finished_jobs WHERE %(queue)s::text IS NULL OR queue = %(queue)s),
           count(*) FILTER (WHERE status = 'running'), count(*) FILTER (WHERE status <> 'running')
    FROM taskd.jobs WHERE %(queue)s::text IS NULL OR queue = %(queue)s"""
_REPEATED: LiteralString = """
    SELECT count(*)
    FROM taskd.job_events after JOIN taskd.job_events before
      ON before.job_id = after.job_id AND before.version = after.version - 1
    WHERE after.from_status = 'running' AND after.to_status = 'pending' AND after.failures = before.failures
      AND (%(queue)s::text IS NULL OR after.queue = %(queue)s)"""
_LEADER: LiteralString = "SELECT instance_id, epoch FROM taskd.leader WHERE shard = 0 AND holder IS NOT NULL"


class Sight(msgspec.Struct, frozen=True):
    """What was seen last. `repeated` counts attempts that faults cut short."""

    finished: int = 0
    running: int = 0
    waiting: int = 0
    repeated: int = 0
    leader: str | None = None
    epoch: int = 0
    #: False: PostgreSQL did not answer, and the figures are of before.
    fresh: bool = True


class Lookout:
    """`with Lookout(dsn, queue) as lookout:` and read `sight` at any time."""

    def __init__(self, dsn: str, queue: str | None) -> None:
        self.sight = Sight()
        self._dsn = dsn
        self._queue = queue
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Lookout:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self.sight = self._look()
            except psycopg.Error:
                self.sight = msgspec.structs.replace(self.sight, fresh=False)
            if self._over.wait(EVERY):
                return

    def _look(self) -> Sight:
        # A connection a look: the one of before may have died with the server, or hang.
        options = f"-c statement_timeout={DEADLINE}"
        with psycopg.connect(
            self._dsn, connect_timeout=2, autocommit=True, options=options, application_name="taskd:torture"
        ) as connection:
            only = {"queue": self._queue}
            finished, running, waiting = _row(connection.execute(_JOBS, only).fetchone())
            (repeated,) = _row(connection.execute(_REPEATED, only).fetchone())
            leader = connection.execute(_LEADER).fetchone()
        name, epoch = leader if leader is not None else (None, 0)
        return Sight(finished, running, waiting, repeated, name, epoch, fresh=True)


def _row(row: tuple[Any, ...] | None) -> tuple[Any, ...]:
    assert row is not None
    return row
