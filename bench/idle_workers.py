"""Run many idle workers in one process: `python -m bench.idle_workers FIRST COUNT [SLOTS QUEUE...]`, until SIGTERM.

Each has the parts of a real worker, without executors: a session in PostgreSQL with its heartbeats, a lease and a
registered key in etcd with its renewals and watches, and a follower of the live configuration. They share a few
connections to PostgreSQL, as behind a pooler. By default each has 8 slots and serves the queue "default". They claim
no job.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Sequence
from uuid import uuid4

import uvloop

from taskd.config import follow
from taskd.coordination import EtcdCoordinator
from taskd.domain.fencing import Session
from taskd.runtime.config import Config
from taskd.runtime.host import this_process
from taskd.seams import Member
from taskd.settings import Settings, load
from taskd.store.config import PostgresConfigStore
from taskd.store.lane import RELAXED, Lane
from taskd.store.sessions import PostgresSessions

LANES = 8


async def idle_worker(name: str, settings: Settings, lane: Lane, slots: int, queues: Sequence[str]) -> None:
    """Run one idle worker without an end."""
    options, host = settings.worker, this_process()
    session = Session(id=uuid4(), worker_id=name, host=host, queues=tuple(queues), slots=slots)
    sessions = PostgresSessions(lane)
    member = Member(
        kind="worker",
        id=name,
        incarnation=session.id,
        address="",
        host=host.name,
        pid=host.pid,
        started_at=time.time(),
        queues=list(queues),
        slots=slots,
        tasks=["noop"],
        stats={"running": 0.0, "free": float(slots)},
    )
    await asyncio.sleep(random.uniform(0, options.heartbeat))  # as if the workers had started at different times
    assert await sessions.open(session, options.session_ttl)
    async with EtcdCoordinator(settings.etcd, worker=name) as coordinator, coordinator.register(lambda: member, 3.0):
        following = asyncio.create_task(follow(Config(), coordinator, PostgresConfigStore(lane)))
        try:
            while True:
                await asyncio.sleep(options.heartbeat)
                await sessions.heartbeat(session, options.session_ttl, [], slots)
        finally:
            following.cancel()


async def run(first: int, count: int, slots: int, queues: Sequence[str]) -> None:
    """Run `count` idle workers."""
    settings = load()
    lanes = itertools.cycle(
        Lane(settings.postgres.dsn, name="taskd:idle-workers", deadline=30.0, options=RELAXED) for _ in range(LANES)
    )
    async with asyncio.TaskGroup() as group:
        for number in range(first, first + count):
            group.create_task(idle_worker(f"idle-{number}", settings, next(lanes), slots, queues))


if __name__ == "__main__":
    _first, _count, *_rest = sys.argv[1:]
    _slots, *_queues = _rest or ["8"]
    uvloop.run(run(int(_first), int(_count), int(_slots), _queues or ["default"]))
