"""Leaders that are killed, terminated or stopped (scenarios 1 to 5)."""

from __future__ import annotations

import time

import psycopg

from taskd.domain.shard import shard_of
from taskd.torture.history import History
from tests.chaos import measure
from tests.chaos.run import Scenario
from tests.chaos.shape import SHARD, SHARDS, Shape
from tests.chaos.world import World, waits_for_a_lock


def _killed(world: World) -> None:
    for _ in range(2):
        world.flow(world.random.uniform(1, 3))
        leader = world.leader()
        world.kill(leader)
        world.leader(among=[s for s in world.schedulers if s is not leader])
        world.revive()


def _all_killed(world: World) -> None:
    """Kill every scheduler: none answers and none leads, while running attempts continue and are recorded."""
    world.flow(3)
    for scheduler in world.schedulers:
        world.kill(scheduler)
    world.flow(5)
    world.healed()
    world.revive()
    world.flow(5)


def _terminated(world: World) -> None:
    for _ in range(3):
        world.flow(world.random.uniform(1, 3))
        leader = world.leader()
        world.terminate(leader)
        assert leader.status == 0
        world.leader()
        world.revive()


def _gap(history: History, world: World) -> dict[str, float]:
    return {"gap": measure.gap(history, history.meta.load_from, history.meta.load_until)}


def _frozen(world: World) -> None:
    world.flow(world.random.uniform(1, 3))
    leader = world.leader()
    with world.frozen(leader):
        await_takeover(world, leader.name)
        world.flow(5)
    world.until(lambda: not leader.leads)
    world.healed()


def _frozen_in_a_statement(world: World) -> None:
    """Freeze and replace the leader inside a dispatch that waits for another connection's row lock."""
    for _ in range(2):
        world.flow(world.random.uniform(1, 2))
        leader = world.leader()
        with psycopg.connect(world.postgres.dsn) as other_client:
            job = world.submit("nap", {"seconds": 0.01}, delay=1.0)
            other_client.execute("SELECT FROM taskd.jobs WHERE id = %s FOR UPDATE", [job])
            world.until(lambda: waits_for_a_lock(world))
            with world.frozen(leader):
                await_takeover(world, leader.name)
                other_client.rollback()
                world.flow(1)
        world.until(lambda old=leader: not old.leads)  # type: ignore[misc]  # bound at once
    world.healed()


def await_takeover(world: World, former: str, *, shard: int = SHARD) -> None:
    """Return when PostgreSQL's row names a leader other than `former`, and record the time as a figure."""
    began = time.monotonic()

    def other() -> bool:
        with psycopg.connect(world.postgres.dsn) as connection:
            row = connection.execute(
                "SELECT instance_id, holder FROM taskd.leader WHERE shard = %s", [shard]
            ).fetchone()
        return row is not None and row[1] is not None and row[0] != former

    world.until(other)
    world.figures["takeover"] = max(world.figures.get("takeover", 0.0), time.monotonic() - began)


def killed_at_failpoint(world: World) -> None:
    """Wait until at least two leaders have died at their failpoint, and restart them.

    With several shards, all leaders may die before the first restart.
    """
    noted: set[int] = set()
    while len(noted) < 2:
        world.until(lambda: len(world.schedulers) < world.shape.schedulers, 60)
        _record_dead(world, noted)
        world.until(lambda: not world.schedulers or any(scheduler.leads for scheduler in world.schedulers))
        _record_dead(world, noted)
        world.revive()


def _record_dead(world: World, noted: set[int]) -> None:
    for member in world.members.values():
        if member.role == "scheduler" and not member.alive and member.pid not in noted:
            world.note("SIGKILL", member.name, pid=member.pid)
            noted.add(member.pid)


def _late_starts(history: History, world: World) -> dict[str, float]:
    """Measure the seconds from a takeover to the start of jobs that an earlier leader had dispatched."""
    takeovers = [t for t in history.terms if t.what == "takeover"]
    queued: dict[int, float] = {}
    late: list[float] = []
    for event in history.events:
        if event.to_status == "queued":
            queued.setdefault(event.job_id, event.at)
        elif event.to_status == "running" and event.job_id in queued:
            of_shard = (t.at for t in takeovers if shard_of(event.queue, t.shards) == t.shard)
            between = [at for at in of_shard if queued[event.job_id] < at < event.at]
            late += [event.at - at for at in between[-1:]]
            del queued[event.job_id]
    return {"left over": float(len(late)), "start": max(late, default=float("inf")), **_gap(history, world)}


SCENARIOS = [
    Scenario(name="1a", title="SIGKILL the leader, twice", body=_killed, bounds={"gap": 8}, measures=_gap),
    Scenario(
        name="1b",
        title="SIGKILL every scheduler",
        body=_all_killed,
        bounds={"gap after": 8, "cut short": 0},
        measures=lambda history, world: {
            "gap after": measure.gap(history, world.healed_at, history.meta.load_until),
            "cut short": float(measure.cut_short(history)),
        },
    ),
    Scenario(name="2", title="SIGTERM the leader, three times", body=_terminated, bounds={"gap": 1}, measures=_gap),
    Scenario(name="3a", title="SIGSTOP the leader", body=_frozen, bounds={"takeover": 10}, measures=_gap),
    Scenario(
        name="3b",
        title="SIGSTOP the leader inside a dispatch",
        body=_frozen_in_a_statement,
        bounds={"takeover": 10},
        measures=_gap,
    ),
    Scenario(
        name="4",
        title="kill between dispatch commit and XADD",
        body=killed_at_failpoint,
        shape=Shape(environment={"TASKD_FAILPOINT": "dispatch.committed:kill@150"}),
        bounds={"start": 5},
        measures=_late_starts,
    ),
    Scenario(
        name="5",
        title="kill between XADD and its reply",
        body=killed_at_failpoint,
        shape=Shape(environment={"TASKD_FAILPOINT": "ring.sent:kill@150"}),
        # Sent entries are claimed without a leader, so no job is left to start late. With shards, each scheduler leads one
        # and dies at its failpoint, the last one seconds after the first.
        bounds={"gap": 8 if SHARDS == 1 else 13},
        measures=_gap,
    ),
]
