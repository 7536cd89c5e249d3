"""Workers that are killed, stopped or terminated, and two with one id (scenarios 6 to 9 and 28)."""

from __future__ import annotations

import signal
import time
from typing import Any

import psycopg

from taskd.domain.job import FINAL
from taskd.torture.checker.leaders import LEADER, REOFFER
from taskd.torture.history import History
from tests.chaos import measure
from tests.chaos.member import Member
from tests.chaos.run import Scenario
from tests.chaos.shape import GRACE
from tests.chaos.world import World, waits_for_a_lock

#: Every failpoint around a claim, its acknowledgement and its settlement.
POINTS = (
    "claim.before",
    "claim.done",
    "decide.before",
    "decide.done",
    "settle.before",
    "settle.done",
    "session.opened",
)
#: Payload of jobs whose second attempt still runs when the worker of the first one continues.
LONG_JOB = {"seconds": 16}


def _busy(world: World) -> Member:
    """Wait for workers with at least eight running attempts and return one."""
    workers = world.until(lambda: [w for w in world.workers if w.json("/metrics").get("running", 0) >= 8], 60)
    return world.random.choice(workers)  # type: ignore[no-any-return]  # until returns Any


def _one_killed(world: World) -> None:
    world.flow(3)
    world.kill(_busy(world))
    world.flow(SESSION)
    world.healed()


def _all_killed(world: World) -> None:
    world.flow(4)
    for worker in world.workers:
        world.kill(worker)
    world.flow(1)
    world.revive()
    world.healed()


def _restarts(history: History, world: World) -> dict[str, float]:
    killed = {f.target: f.at for f in history.faults if f.what == "SIGKILL" and f.target.startswith("w")}
    delays = [seconds for worker, at in killed.items() for seconds in measure.restarts(history, worker, at)]
    return {"restarted": float(len(delays)), "restart": max(delays, default=float("inf"))}


def _frozen(world: World, *, whole: bool) -> None:
    """Continue a stopped worker when its jobs run elsewhere, so that its late results meet running attempts."""
    world.flow(2)
    jobs = [world.submit("nap", LONG_JOB) for _ in range(20)]
    world.until(lambda: all(world.job(job)["status"] == "running" for job in jobs))
    holders = {job: world.job(job)["worker_id"] for job in jobs}
    worker = world.members[max(holders.values(), key=list(holders.values()).count)]
    orphans = [job for job, holder in holders.items() if holder == worker.name]
    with world.frozen(worker, whole=whole):
        assert any(world.job(job)["status"] == "running" for job in orphans), "too slow: all ended before the fault"
        world.until(lambda: all(_elsewhere(world.job(job), worker.name) for job in orphans), 60)
        world.flow(1)
    world.until(lambda: worker.ready, 60)
    world.flow(3)
    world.healed()


def _elsewhere(job: dict[str, Any], worker: str) -> bool:
    """Return True if the job runs on another worker, or is final since it ended before the freeze."""
    return job["status"] in FINAL or job.get("worker_id", worker) != worker


def _takeovers(history: History, world: World) -> dict[str, float]:
    frozen = next(f for f in history.faults if f.what == "SIGSTOP")
    delays = measure.restarts(history, frozen.target, frozen.at)
    return {"restarted": float(len(delays)), "restart": max(delays, default=float("inf"))}


def _renewed_at_the_last_moment(world: World) -> None:
    """Commit a heartbeat after its lease has expired: a reaper that waits for the row must see it."""
    world.flow(3)
    worker = _busy(world)
    with world.frozen(worker), psycopg.connect(world.postgres.dsn) as heartbeat:
        world.until(lambda: _lease(world, worker.name) < 1.0)
        heartbeat.execute(
            "UPDATE taskd.sessions SET expires_at = clock_timestamp() + interval '8 s'"
            " WHERE worker_id = %s AND ended_at IS NULL",
            [worker.name],
        )
        world.until(lambda: _lease(world, worker.name) < 0.0 and waits_for_a_lock(world))
        heartbeat.commit()
        world.flow(1)
    world.until(lambda: worker.ready, 60)
    world.healed()


def _lease(world: World, worker: str) -> float:
    with psycopg.connect(world.postgres.dsn) as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 FROM taskd.sessions"
            " WHERE worker_id = %s AND ended_at IS NULL",
            [worker],
        ).fetchone()
    return row[0] if row is not None else -1.0


def _terminated(world: World) -> None:
    job = world.submit("nap", {"seconds": 600})
    holder = world.until(lambda: world.job(job).get("worker_id"))
    world.flow(2)
    world.figures["exit"] = world.terminate(world.members[holder])
    assert world.members[holder].status == 0
    again = world.until(lambda: world.job(job)["status"] == "running" and world.job(job))
    assert again["worker_id"] != holder
    assert [a["outcome"] for a in again["attempts"] if a.get("outcome")] == ["released"], again["attempts"]
    world.cancel(job)
    world.healed()


def _killed_before_its_claim(world: World) -> None:
    """Kill workers before a claim: their pending entries move to another worker, without a new dispatch."""
    for _ in range(3):
        name = world.random.choice(world.workers).name
        world.kill(world.members[name])
        world.spawn_worker(name, TASKD_FAILPOINT=f"claim.before:kill@{world.random.randint(5, 40)}")
        member = world.members[name]
        world.until(lambda worker=member: not worker.alive, 60)  # type: ignore[misc]  # bound at once
        world.note("SIGKILL", name, pid=member.pid)
        world.flow(5)
        world.revive()
    world.healed()


def _reoffers(history: History, world: World) -> dict[str, float]:
    reoffers = sum(e.move == REOFFER and e.by.startswith(LEADER) for e in history.events)
    return {"re-offered": float(reoffers), "longest wait": max(measure.waits(history), default=0.0)}


def _killed_around(world: World) -> None:
    """Kill a worker at each failpoint in turn, at a passing that the seed chooses."""
    for point in POINTS:
        name = world.random.choice(world.workers).name
        world.kill(world.members[name])
        nth = 1 if point == "session.opened" else world.random.randint(5, 60)
        world.spawn_worker(name, TASKD_FAILPOINT=f"{point}:kill@{nth}")
        member = world.members[name]
        world.until(lambda worker=member: not worker.alive, 60)  # type: ignore[misc]  # bound at once
        assert member.status == -signal.SIGKILL
        world.note("SIGKILL", name, pid=member.pid)
        world.revive()
    world.healed()


def _same_id(world: World) -> None:
    """Start a second worker with a live one's id: it is refused and claims nothing."""
    first = world.workers[0]
    second = world.spawn_namesake(first)
    began = time.monotonic()
    world.until(lambda: not second.alive, 60)
    world.figures["refusal"] = time.monotonic() - began
    assert second.status == 1
    assert "in use by a live worker" in second.output
    assert first.ready


SESSION = 8.0

SCENARIOS = [
    Scenario(name="6a", title="SIGKILL a busy worker", body=_one_killed, bounds={"restart": 20}, measures=_restarts),
    Scenario(name="6b", title="SIGKILL all workers", body=_all_killed, bounds={"restart": 20}, measures=_restarts),
    Scenario(
        name="7a",
        title="SIGSTOP a worker, executors run on",
        body=lambda world: _frozen(world, whole=False),
        bounds={"restart": 20},
        measures=_takeovers,
    ),
    Scenario(
        name="7b",
        title="SIGSTOP a worker and its executors",
        body=lambda world: _frozen(world, whole=True),
        bounds={"restart": 20},
        measures=_takeovers,
    ),
    Scenario(
        name="7c",
        title="a heartbeat gets through as the lease ends",
        body=_renewed_at_the_last_moment,
        measures=lambda history, world: {"reaped": float(measure.reaped(history))},
        bounds={"reaped": 0},
    ),
    Scenario(name="8", title="SIGTERM a worker with a 10-minute job", body=_terminated, bounds={"exit": GRACE}),
    Scenario(
        name="9a",
        title="kill before a claim",
        body=_killed_before_its_claim,
        bounds={"re-offered": 0, "longest wait": 12},
        measures=_reoffers,
    ),
    Scenario(name="9b", title="kill around claim, XACK and settle", body=_killed_around, measures=_reoffers),
    Scenario(name="28", title="two workers with one id", body=_same_id, bounds={"refusal": 30}),
]
