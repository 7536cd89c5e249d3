"""Faults under tasks with checkpoints, progress, locks, children, snoozes and typed arguments (scenarios 35)."""

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
from tests.chaos.author import PATIENT, AuthorWorkload
from tests.chaos.run import Scenario
from tests.chaos.shape import Shape
from tests.chaos.world import World, signal_all

#: Seconds without etcd, longer than its leases (5 s).
AWAY = 9.0
#: Entries of the trace that must occur, since otherwise the scenario has tested nothing.
SEEN = {"resumed": "resume", "stored": "saved", "locks": "lock", "children": "child", "snoozes": "snooze"}
#: Tasks whose jobs may fail only after a crash or a loss.
MUST_COMPLETE = ("check_arguments", "snooze_repeatedly", "climb")


def _members_killed(world: World) -> None:
    """Kill executors, then a worker, then the leader."""
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


def _stopped_before_checkpoints(world: World) -> None:
    """Stop a worker that is about to store checkpoints, and continue it when their jobs run on another worker.

    The two workers have a separate queue, so that the jobs certainly run on one after the other.
    """
    worker = world.spawn_guest("stopped", "--queues", "checkpoints", TASKD_FAILPOINT="note.before:stop@1")
    world.until(lambda: worker.ready, 60)
    job = {
        "task": "checkpoint_once",
        "queue": "checkpoints",
        "payload": {"seconds": 9},
        "retry_backoff": {"initial": 0.5, "factor": 1},
    }
    with Client(",".join(world.urls)) as client:
        jobs = client.submit_batch([job] * 15)
    world.until(lambda: '"point": "note.before"' in worker.output, 60)
    world.note("SIGSTOP", worker.name, pids=[worker.pid])
    orphans = _claimed(world, jobs, worker.name)
    successor = world.spawn_guest("successor", "--queues", "checkpoints")
    world.until(lambda: orphans <= _claimed(world, jobs, successor.name), 60)
    os.kill(worker.pid, signal.SIGCONT)
    world.note("SIGCONT", worker.name, pids=[worker.pid])
    world.figures["orphans"] = float(len(orphans))
    world.until(lambda: all(world.job(job)["status"] in FINAL for job in jobs), 60)
    world.until(lambda: worker.ready, 60)
    world.healed()


def _claimed(world: World, jobs: list[int], worker: str) -> set[int]:
    """Return the jobs that this worker has claimed."""
    with psycopg.connect(world.postgres.dsn) as connection:
        rows = connection.execute(
            "SELECT job_id FROM taskd.job_events WHERE job_id = ANY (%s) AND to_status = 'running' AND worker_id = %s",
            [jobs, worker],
        )
        return {job for (job,) in rows}


def _etcd_outages(world: World) -> None:
    """Take etcd away for longer than a lease, twice: each lock is lost, and its holder stopped before another gets it."""
    world.flow(2)
    with _contended(world), world.standstill("etcd"):
        world.flow(AWAY)
    with _contended(world), world.fault("SIGKILL", "etcd", "restart"):
        world.etcd.kill()
        world.flow(AWAY)
        world.etcd.start()


@contextmanager
def _contended(world: World) -> Iterator[None]:
    """Keep locks held and waited for during the body; end when each has been granted again."""
    tasks = ("hold_lock", "hold_lock", "hold_lock_in_thread")
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
        world.request("POST", f"/jobs/{job}/cancel")


def _granted(world: World) -> list[str]:
    """Return the names of granted locks in the order of the trace."""
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
    figures = {name: float(sum(sign.what == what for sign in history.trace)) for name, what in SEEN.items()}
    figures["resumed"] = float(sum(sign.what == "resume" and sign.detail[1] != "0" for sign in history.trace))
    if missing := [name for name, count in figures.items() if not count]:
        world.unexpected.append(f"the trace has no {', '.join(missing)}, so the scenario has tested nothing")
    failed = {row.id for row in history.jobs if row.status == "failed" and row.task in MUST_COMPLETE}
    crashed = {row.id for row in history.jobs if row.crashes or row.losses}
    figures["failed"] = float(len(failed - crashed))
    return figures


def _shape(**mix: Any) -> Shape:
    return Shape(app="tests.chaos.author", mix=AuthorWorkload(**mix), rate=20)


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
        body=_stopped_before_checkpoints,
        shape=_shape(climbing=0, snoozing=0),
        measures=lambda history, world: {},
    ),
    Scenario(
        name="35c",
        title="etcd frozen, then killed, while tasks hold locks",
        body=_etcd_outages,
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
