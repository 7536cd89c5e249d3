"""Faults of leaders and servers while schedules fire (scenarios 34)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg

from taskd.torture.history import History
from tests.chaos.author import AuthorWorkload
from tests.chaos.run import Scenario
from tests.chaos.scenarios.leaders import await_takeover, killed_at_failpoint
from tests.chaos.shape import QUEUES, Shape
from tests.chaos.world import World

#: The shard whose leader fires schedules, for jobs of all queues.
FIRES = 0
#: Seconds without a firing, and the number of those ticks with which a schedule catches up.
AWAY, CATCH_UP = 600, 200
#: Minimum of ticks with jobs: with fewer, the scenario has tested little.
ENOUGH = 30
SECONDLY = "* * * * * *"
#: Inserts the ticks of the next minute; a firing waits until that transaction ends. Locks on schedules would not make it
#: wait, since a firing skips locked schedules.
NEXT_TICKS = (
    "INSERT INTO taskd.fires (schedule, fire_at, fired_at, state) SELECT name, tick, tick, 'skipped' FROM taskd.schedules,"
    " generate_series(date_trunc('second', now()) + interval '2 s', now() + interval '1 min', interval '1 s') tick"
    " WHERE name LIKE 'secondly-%' ORDER BY name, tick"
)


def _job(seconds: float, queue: str = "default") -> dict[str, Any]:
    return {"task": "tick", "queue": queue, "payload": {"seconds": seconds}}


#: A schedule for the queue of each shard, and others whose jobs may overlap.
ALLOWED: dict[str, dict[str, Any]] = {
    **{f"secondly-{queue}": {"cron": SECONDLY, "job": _job(0.02, queue)} for queue in QUEUES},
    "berlin": {"cron": "*/2 * * * * *", "tz": "Europe/Berlin", "missed": "skip", "job": _job(3.0)},
    "interval": {"every": 1.5, "missed": "all", "catch_up": 1000, "job": _job(0.02)},
}
#: Schedules of each policy against overlap.
EXCLUSIVE: dict[str, dict[str, Any]] = {
    "skip": {"cron": SECONDLY, "overlap": "skip", "job": _job(1.3)},
    "queue": {"every": 1, "overlap": "queue", "job": _job(2.4)},
    "flapping": {"every": 1, "overlap": "queue", "job": _job(0.7)},
}


@contextmanager
def ticking(world: World, plans: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Create the schedules for the body; then repair the cluster, let them fire for a while, and pause them."""
    for name, plan in plans.items():
        assert world.request("PUT", f"/schedules/{name}", plan).status_code == 201
    world.flow(2)
    yield
    world.repair()
    world.flow(4)
    for name in plans:
        world.until(lambda name=name: _paused(world, name))  # type: ignore[misc]  # bound at once


def _paused(world: World, name: str) -> bool:
    """Pause the schedule; return False if the scheduler does not answer yet."""
    try:
        return world.request("POST", f"/schedules/{name}/pause").status_code == 200
    except httpx.HTTPError:
        return False


def _leaders_killed(world: World) -> None:
    with ticking(world, ALLOWED | EXCLUSIVE):
        for _ in range(2):
            leader = world.leader(shard=FIRES)
            world.kill(leader)
            world.leader(among=[s for s in world.schedulers if s is not leader], shard=FIRES)
            world.flow(world.random.uniform(0.5, 2))
            world.revive()
        world.terminate(world.leader(shard=FIRES))
        world.revive()


def _frozen_in_a_fire(world: World) -> None:
    """Freeze and replace the leader inside a firing that waits for another connection's rows."""
    with ticking(world, ALLOWED):
        for _ in range(2):
            leader = world.leader(shard=FIRES)
            with psycopg.connect(world.postgres.dsn) as other_client:
                other_client.execute(NEXT_TICKS)
                world.until(lambda: _fire_waits(world))
                with world.frozen(leader):
                    await_takeover(world, leader.name, shard=FIRES)
                    world.until(lambda old=leader.name: _fire_waits(world, besides=old))  # type: ignore[misc]  # as below
                    other_client.rollback()
                    world.flow(1)
            world.until(lambda old=leader: not old.leads_shard(FIRES))  # type: ignore[misc]  # bound at once
        world.healed()


def _fire_waits(world: World, *, besides: str = "") -> bool:
    """Return True while a firing of the leader waits for a lock, unless the leader is `besides`."""
    with psycopg.connect(world.postgres.dsn) as connection:
        rows = connection.execute(
            "SELECT FROM pg_stat_activity a JOIN taskd.leader l ON a.application_name = 'taskd:leader:' || l.holder"
            " WHERE l.shard = %s AND l.instance_id <> %s AND a.wait_event_type = 'Lock' AND a.query LIKE '%%revision bigint%%'",
            [FIRES, besides],
        )
        return rows.fetchone() is not None


def _servers_killed(world: World) -> None:
    with ticking(world, ALLOWED | EXCLUSIVE):
        with world.fault("SIGKILL", "postgres", "restart"):
            world.postgres.kill()
            world.flow(world.random.uniform(1, 3))
            world.postgres.start()
        world.flow(3)
        world.note("FLUSHALL", "redis")
        world.redis.flush()
        world.flow(1)
        with world.fault("SIGKILL", "redis", "restart"):
            world.redis.kill()
            world.flow(2)
            world.redis.start()
        world.flow(1)
        with world.fault("SIGKILL", "etcd", "restart"):
            world.etcd.kill()
            world.flow(2)
            leader = world.leader(shard=FIRES)
            world.kill(leader)
            world.leader(among=[s for s in world.schedulers if s is not leader], shard=FIRES)
            world.etcd.start()


def _killed_while_catching_up(world: World) -> None:
    """Leave ten minutes of ticks to catch up with; each leader that does so dies after its commit."""
    plans = {"late": {"every": 86_400, "missed": "all", "catch_up": CATCH_UP, "job": _job(0.01)}} | EXCLUSIVE
    with ticking(world, plans):
        with psycopg.connect(world.postgres.dsn) as connection:
            connection.execute(
                "UPDATE taskd.schedules SET every = 1, next_at = NULL, anchor = anchor - make_interval(secs => %(away)s),"
                " created_at = anchor - make_interval(secs => %(away)s),"
                " decided_until = anchor - make_interval(secs => %(away)s) WHERE name = 'late'",
                {"away": AWAY},
            )
        killed_at_failpoint(world)


def figures(history: History, world: World) -> dict[str, float]:
    """Return the numbers of ticks, and the longest delay of those that are not caught up."""
    allowed = {schedule.name for schedule in history.schedules if schedule.overlap == "allow"}
    fires = [fire for fire in history.fires if fire.job_id is not None]
    if len(fires) < ENOUGH:
        world.unexpected.append(f"only {len(fires)} ticks made jobs, so the scenario has tested little")
    delays = [fire.fired_at - fire.fire_at for fire in fires if fire.schedule in allowed and fire.schedule != "late"]
    figures = {"ticks": float(len(fires)), "skipped": float(sum(fire.state == "skipped" for fire in history.fires))}
    if any(schedule.name == "late" for schedule in history.schedules):
        figures["caught up"] = float(
            sum(fire.fired_at - fire.fire_at > 60 for fire in fires if fire.schedule == "late")
        )
    return figures | ({"late": max(delays)} if delays else {})


def _shape(**environment: str) -> Shape:
    return Shape(app="tests.chaos.author", mix=AuthorWorkload(), rate=20, environment=environment)


SCENARIOS = [
    Scenario(
        name="34a",
        title="SIGKILL the leader, twice, and SIGTERM, while schedules fire",
        body=_leaders_killed,
        shape=_shape(),
        bounds={"late": 9},
        measures=figures,
    ),
    Scenario(
        name="34b",
        title="SIGSTOP the leader inside a firing",
        body=_frozen_in_a_fire,
        shape=_shape(),
        bounds={"takeover": 10, "late": 15},
        measures=figures,
    ),
    Scenario(
        name="34c",
        title="PostgreSQL, Redis, etcd and the leader killed while schedules fire",
        body=_servers_killed,
        shape=_shape(),
        bounds={"late": 20},
        measures=figures,
    ),
    Scenario(
        name="34d",
        title="leaders die as they catch up with missed ticks",
        body=_killed_while_catching_up,
        shape=_shape(TASKD_FAILPOINT="cron.fired:kill@9"),
        measures=figures,
    ),
]
