"""Redis emptied, frozen, full, or replaced by a replica (scenarios 10 to 12)."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import redis as redis_py

from taskd.dev.servers import binaries
from taskd.dev.servers.valkey import RedisServer
from taskd.domain.band import band_of
from taskd.torture.history import History
from taskd.torture.workload import Workload
from taskd.transport.keys import RedisKeys
from taskd.transport.wire import FIELD, encode
from tests.chaos import measure
from tests.chaos.run import Scenario
from tests.chaos.shape import Shape
from tests.chaos.world import World

BOUNDS = {"start": 5.0, "gap after": 5.0, "errors/s": 5.0}


def _killed(world: World) -> None:
    world.flow(3)
    with world.fault("SIGKILL", "redis", "restart"):
        world.redis.kill()
        world.flow(4)
        world.redis.start()
    world.flow(6)


def _flushed(world: World) -> None:
    for _ in range(10):
        world.flow(world.random.uniform(0.5, 2))
        world.note("FLUSHALL", "redis")
        world.redis.flush()
    world.healed()


def _on_each_stream(world: World, what: str, do: Callable[[redis_py.Redis, str], object]) -> None:
    for _ in range(5):
        world.flow(world.random.uniform(0.5, 2))
        world.note(what, "redis")
        with world.redis.connect() as client:
            for key in client.scan_iter(match="jobs:*", _type="stream"):
                do(client, key)
    world.healed()


def _groups_destroyed(world: World) -> None:
    _on_each_stream(world, "XGROUP DESTROY", lambda client, key: client.xgroup_destroy(key, "workers"))


def _consumers_deleted(world: World) -> None:
    def delete(client: redis_py.Redis, key: str) -> None:
        for worker in world.workers:
            client.xgroup_delconsumer(key, "workers", worker.name)

    _on_each_stream(world, "XGROUP DELCONSUMER", delete)


def _trimmed(world: World) -> None:
    _on_each_stream(world, "XTRIM", lambda client, key: client.xtrim(key, maxlen=0, approximate=False))


def _repeated(world: World) -> None:
    """Repeat every entry at once, and those of jobs that wait for a retry until they are queued again."""
    end = time.monotonic() + 15
    keys = RedisKeys("jobs")
    world.note("repeat", "redis")
    with world.redis.connect() as client, psycopg.connect(world.postgres.dsn, autocommit=True) as reader:
        while time.monotonic() < end:
            for key in client.scan_iter(match="jobs:*", _type="stream"):
                for _, fields in client.xrange(key):
                    client.xadd(key, fields)
            for job, seq, queue, priority in reader.execute(
                "SELECT id, dispatch_seq - (status = 'queued')::int, queue, priority FROM taskd.jobs"
                " WHERE status IN ('pending', 'queued') AND attempt > 0"
            ):
                client.xadd(keys.stream(queue, band_of(priority)), {FIELD: encode(job, seq)})
            world.flow(0.01)
    world.healed()


def _frozen(world: World) -> None:
    world.flow(3)
    with world.standstill("redis"):
        world.flow(15)
    world.flow(6)


def _full(world: World) -> None:
    world.flow(3)
    with world.redis.connect() as client, world.fault("maxmemory", "redis"):
        client.config_set("maxmemory", 1)
        try:
            world.flow(10)
        finally:
            client.config_set("maxmemory", 0)
    world.flow(6)


def _swapped(world: World) -> None:
    """Promote an empty replica: another process behind the same address."""
    empty = RedisServer(
        binaries.find().redis, world.folder / "replica", log=world.folder / "logs" / "replica.log", durable=False
    )
    empty.start()
    try:
        world.flow(3)
        with world.fault("failover", "redis"):
            for member in world.members.values():
                link = world.link(member.name, "redis")
                link.retarget(empty.port)
                link.reset()
        world.flow(8)
        # And back to the first, which lacks everything that the other has received.
        with world.fault("failover", "redis"):
            for member in world.members.values():
                link = world.link(member.name, "redis")
                link.retarget(world.redis.port)
                link.reset()
        world.flow(6)
    finally:
        empty.kill()


def _figures(history: History, world: World) -> dict[str, float]:
    """Return the figures. `start` is the longest wait from a dispatch, or from Redis's recovery, to the claim."""
    heals = [f.at for f in history.faults if f.what in ("heal", "restart", "SIGCONT")]
    until = history.meta.load_until
    reoffered = sum(event.move == ("queued", "pending") for event in history.events)
    return {
        "start": max(measure.waits(history, heals=heals), default=float("inf")),
        "gap after": max((measure.gap(history, heal, min(heal + 6, until)) for heal in heals), default=0.0),
        "re-offered": float(reoffered),
        "errors/s": measure.noise(world.folder / "logs"),
    }


SCENARIOS = [
    Scenario(name="10a", title="Redis killed, back empty", body=_killed, bounds=BOUNDS, measures=_figures),
    Scenario(name="10b", title="FLUSHALL, ten times", body=_flushed, bounds=BOUNDS, measures=_figures),
    # No entry is lost by that, so no job may have to be dispatched again.
    Scenario(
        name="10c",
        title="XGROUP DESTROY",
        body=_groups_destroyed,
        bounds={**BOUNDS, "re-offered": 0},
        measures=_figures,
    ),
    Scenario(name="10d", title="DELCONSUMER", body=_consumers_deleted, bounds=BOUNDS, measures=_figures),
    Scenario(name="10e", title="XTRIM to nothing", body=_trimmed, bounds=BOUNDS, measures=_figures),
    Scenario(
        name="10f",
        title="entries repeated, at once and late",
        body=_repeated,
        shape=Shape(mix=Workload(short=50, long=0, flaky=50)),
        bounds=BOUNDS,
        measures=_figures,
    ),
    Scenario(
        name="11a",
        title="Redis frozen 15 s",
        body=_frozen,
        bounds={"start": 5.0, "gap after": 5.0, "errors/s": 1.0},
        measures=_figures,
    ),
    Scenario(
        name="11b",
        title="Redis out of memory",
        body=_full,
        bounds={"start": 5.0, "gap after": 5.0, "errors/s": 1.0},
        measures=_figures,
    ),
    Scenario(
        name="12",
        title="an empty, then a stale replica promoted",
        body=_swapped,
        shape=Shape(proxied=True),
        bounds=BOUNDS,
        measures=_figures,
    ),
]
