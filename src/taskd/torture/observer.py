"""Watches the cluster during the faults: a thread that queries PostgreSQL again and again, and tolerates its outages."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, LiteralString

import msgspec
import psycopg

from taskd.store.pinned import PINNED, startup

#: Seconds between two observations.
EVERY = 0.5
#: Milliseconds that a query may take.
DEADLINE = 2000

_JOBS: LiteralString = """
    SELECT (SELECT count(*) FROM taskd.finished_jobs WHERE %(queues)s::text[] IS NULL OR queue = ANY (%(queues)s)),
           count(*) FILTER (WHERE status = 'running'), count(*) FILTER (WHERE status <> 'running')
    FROM taskd.jobs WHERE %(queues)s::text[] IS NULL OR queue = ANY (%(queues)s)"""
_REPEATED: LiteralString = """
    SELECT count(*)
    FROM taskd.job_events after JOIN taskd.job_events before
      ON before.job_id = after.job_id AND before.version = after.version - 1
    WHERE after.from_status = 'running' AND after.to_status = 'pending' AND after.failures = before.failures
      AND (%(queues)s::text[] IS NULL OR after.queue = ANY (%(queues)s))"""
_LEADERS: LiteralString = """
    SELECT shard, CASE WHEN holder IS NOT NULL THEN instance_id END, epoch FROM taskd.leader
    WHERE shard < (SELECT shards FROM taskd.leader WHERE shard = 0) ORDER BY shard"""


class ObservedLeader(msgspec.Struct, frozen=True):
    """The leader of a shard; `name` is None if it has none."""

    shard: int
    name: str | None
    epoch: int


class Observation(msgspec.Struct, frozen=True):
    """The last observation. `repeated` counts attempts that faults cut short."""

    finished: int = 0
    running: int = 0
    waiting: int = 0
    repeated: int = 0
    #: One for each shard.
    leaders: tuple[ObservedLeader, ...] = ()
    #: False: PostgreSQL did not answer, and the figures are old.
    fresh: bool = True


class Observer:
    """The watching thread. Use it as `with Observer(dsn, queues) as observer:`, and read `observation` at any time.

    Without `queues`, all queues count.
    """

    def __init__(self, dsn: str, queues: Sequence[str] | None) -> None:
        self.observation = Observation()
        self._dsn = dsn
        self._queues = list(queues) if queues else None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self.observation = self._look()
            except psycopg.Error:
                self.observation = msgspec.structs.replace(self.observation, fresh=False)
            if self._over.wait(EVERY):
                return

    def _look(self) -> Observation:
        # A new connection each time: an old one may have died with the server, or hang.
        options = startup({**PINNED, "statement_timeout": str(DEADLINE)})
        with psycopg.connect(
            self._dsn, connect_timeout=2, autocommit=True, application_name="taskd:torture", **options
        ) as connection:
            only = {"queues": self._queues}
            finished, running, waiting = _row(connection.execute(_JOBS, only).fetchone())
            (repeated,) = _row(connection.execute(_REPEATED, only).fetchone())
            leaders = tuple(ObservedLeader(*row) for row in connection.execute(_LEADERS))
        return Observation(finished, running, waiting, repeated, leaders, fresh=True)


def _row(row: tuple[Any, ...] | None) -> tuple[Any, ...]:
    assert row is not None
    return row
