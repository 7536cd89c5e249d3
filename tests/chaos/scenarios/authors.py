"""Tasks that store checkpoints, show progress, hold locks, submit children, snooze, and take models (scenarios 35)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from taskd.client import Client
from taskd.domain.job import FINAL
from taskd.torture.history import History
from tests.chaos.author import PATIENT, Author
from tests.chaos.run import Scenario
from tests.chaos.shape import Shape
from tests.chaos.world import World, signal_all

#: Seconds without etcd, longer than its leases (5 s).
AWAY = 9.0
#: Signs of the trace that a scenario must have seen, or it has shown nothing.
SEEN = {"resumed": "resume", "stored": "saved", "locks": "lock", "children": "child", "snoozes": "snooze"}


def _members_killed(world: World) -> None:
    """Executors, then their workers, then who leads."""
    for _ in range(3):
        world.flow(world.random.uniform(0.5, 1.5))
        worker = world.random.choice(world.workers)
        world.note("SIGKILL executors", worker.name)
        signal_all(worker.executors, signal.SIGKILL)
    world.kill(world.random.choice(world.workers))
    world.flow(1)
    world.kill(world.leader())
    world.flow(1)
    world.revive()
    world.flow(3)
    world.healed()


def _stands_still_with_notes(world: World) -> None:
    """A worker stands still when it is about to store checkpoints, and goes on when their jobs run elsewhere.

    The two have a queue of their own, so that they surely have the jobs, one after the other.
    """
    worker = world.spawn_guest("perched", "--queues", "perch", TASKD_FAILPOINT="note.before:stop@1")
    world.until(lambda: worker.ready, 60)
    job = {"task": "perch", "queue": "perch", "payload": {"seconds": 9}, "retry_backoff": {"initial": 0.5, "factor": 1}}
    with Client(",".join(world.urls)) as client:
        jobs = client.submit_batch([job] * 15)
    world.until(lambda: '"point": "note.before"' in worker.output, 60)
    world.note("SIGSTOP", worker.name, pids=[worker.pid])
    orphans = _claimed(world, jobs, worker.name)
    heir = world.spawn_guest("heir", "--queues", "perch")
    world.until(lambda: orphans <= _claimed(world, jobs, heir.name), 60)
    os.kill(worker.pid, signal.SIGCONT)
    world.note("SIGCONT", worker.name, pids=[worker.pid])
    world.figures["orphans"] = float(len(orphans))
    world.until(lambda: all(world.job(job)["status"] in FINAL for job in jobs), 60)
    world.until(lambda: worker.ready, 60)
    world.healed()


def _claimed(world: World, jobs: list[int], worker: str) -> set[int]:
    """Which of the jobs were claimed by this worker."""
    with psycopg.connect(world.postgres.dsn) as connection:
        rows = connection.execute(
            "SELECT job_id FROM taskd.job_events WHERE job_id = ANY (%s) AND to_status = 'running' AND worker_id = %s",
            [jobs, worker],
        )
        return {job for (job,) in rows}


def _etcd_away(world: World) -> None:
    """Longer than a lease, twice: every lock is lost, and who held it is stopped before somebody else gets it."""
    world.flow(2)
    with _contended(world), world.standstill("etcd"):
        world.flow(AWAY)
    with _contended(world), world.fault("SIGKILL", "etcd", "restart"):
        world.etcd.kill()
        world.flow(AWAY)
        world.etcd.start()


@contextmanager
def _contended(world: World) -> Iterator[None]:
    """Locks that are held and wanted for longer than the body takes; after it, until each was given to somebody again."""
    tasks = ("guard", "guard", "guard_thread")
    payloads = [{"name": f"contended-{number // 3}", "seconds": 4 * AWAY} for number in range(9)]
    jobs = [world.submit(task, payload, **PATIENT) for task, payload in zip(tasks * 3, payloads, strict=True)]
    names = {str(payload["name"]) for payload in payloads}
    since = len(_granted(world))
    world.until(lambda: set(_granted(world)[since:]) >= names, 60)
    since = len(_granted(world))
    yield
    world.until(lambda: set(_granted(world)[since:]) >= names, 60)
    world.flow(2)
    for job in jobs:
        world.ask("POST", f"/jobs/{job}/cancel")


def _granted(world: World) -> list[str]:
    """The names of the locks that tasks got, in turn, by the trace."""
    lines = [line.split() for line in (world.history / "trace").read_text().splitlines()]
    return [words[5] for words in lines if len(words) > 6 and words[2] == "lock" and words[5].startswith("contended")]


def _servers_killed(world: World) -> None:
    world.flow(3)
    for _ in range(2):
        with world.fault("SIGKILL", "postgres", "restart"):
            world.postgres.kill()
            world.flow(world.random.uniform(0.5, 4))
            world.postgres.start()
        world.flow(2)
        world.note("FLUSHALL", "redis")
        world.redis.flush()
        world.flow(2)
    leader = world.leader()
    with world.frozen(leader):
        world.leader(among=[s for s in world.schedulers if s is not leader])
        world.flow(1)
    world.flow(2)
    world.healed()


def _figures(history: History, world: World) -> dict[str, float]:
    found = {name: float(sum(sign.what == what for sign in history.trace)) for name, what in SEEN.items()}
    found["resumed"] = float(sum(sign.what == "resume" and sign.detail[1] != "0" for sign in history.trace))
    if missing := [name for name, count in found.items() if not count]:
        world.surprises.append(f"no {', '.join(missing)} seen: that shows nothing")
    failed = {row.id for row in history.jobs if row.status == "failed" and row.task in ("sell", "doze", "climb")}
    crashed = {row.id for row in history.jobs if row.crashes or row.losses}
    found["failed"] = float(len(failed - crashed))
    return found


def _shape(**mix: Any) -> Shape:
    return Shape(app="tests.chaos.author", mix=Author(**mix), rate=20)


SCENARIOS = [
    Scenario(
        name="35a",
        title="SIGKILL executors, a worker, the leader under authors' tasks",
        body=_members_killed,
        shape=_shape(),
        bounds={"failed": 0},
        measures=_figures,
    ),
    Scenario(
        name="35b",
        title="a worker stands still about to store checkpoints",
        body=_stands_still_with_notes,
        shape=_shape(climbing=0, dozing=0),
        measures=lambda history, world: {},
    ),
    Scenario(
        name="35c",
        title="etcd frozen, then killed, while tasks hold locks",
        body=_etcd_away,
        shape=_shape(),
        bounds={"failed": 0},
        measures=_figures,
    ),
    Scenario(
        name="35d",
        title="PostgreSQL killed, Redis emptied, the leader frozen under authors' tasks",
        body=_servers_killed,
        shape=_shape(),
        bounds={"failed": 0},
        measures=_figures,
    ),
]
