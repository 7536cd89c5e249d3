"""Tasks that crash, hang, return bad values or kill their worker (scenarios 24, 25 and 38)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.chaos.bad_tasks import RESULTS
from tests.chaos.member import Member
from tests.chaos.run import Scenario
from tests.chaos.shape import Shape
from tests.chaos.world import World

FINAL = ("completed", "failed", "cancelled")
BACKOFF = {"initial": 0.1, "factor": 1, "max": 1, "jitter": True}
#: A part of the error with which each job must fail.
CRASHES = {"segfault": "SIGSEGV", "exit_process": "status 3", "exhaust_memory": "MemoryError"}
OVERRUNS = ("spin", "ignore_sigterm", "swallow_exceptions")
ERRORS = {"nul": "NUL", "nan": "NaN", "huge": "at most", "bytes": "bytes", "object": "object"}


@contextmanager
def _bad_worker(world: World) -> Iterator[Member]:
    """Run a worker with the bad tasks and a separate queue; it is not one of `members`."""
    worker = world.spawn_guest("bad", "--app", "tests.chaos.bad_tasks", "--queues", "bad")
    world.until(lambda: worker.ready, 60)
    yield worker
    assert worker.terminate(60) == 0


def _crashes_and_overruns(world: World, worker: Member) -> None:
    pid = worker.pid
    common = {"queue": "bad", "retry_backoff": BACKOFF, "max_retries": 1}
    jobs = {task: world.submit(task, {}, **common) for task in CRASHES}
    jobs |= {task: world.submit(task, {}, timeout=1.0, **common) for task in OVERRUNS}
    documents = {task: _final(world, job) for task, job in jobs.items()}
    for task, job in documents.items():
        assert job["status"] == "failed", (task, job)
    for task in ("segfault", "exit_process"):
        crashed = [a for a in documents[task]["attempts"] if a["outcome"] == "crashed"]
        assert len(crashed) == 3, documents[task]
    for task, part in CRASHES.items():
        assert part in documents[task]["error"], (task, documents[task]["error"])
    assert worker.alive
    assert worker.pid == pid
    next_job = world.submit("return_value", {"name": "nan"}, queue="bad", max_retries=0)
    assert _final(world, next_job)["status"] == "failed"


def _results(world: World, worker: Member) -> None:
    jobs = {name: world.submit("return_value", {"name": name}, queue="bad", max_retries=0) for name in RESULTS}
    for name, job in jobs.items():
        document = _final(world, job)
        assert document["status"] == "failed", (name, document)
        assert ERRORS[name].lower() in document["error"].lower(), (name, document["error"])


def _kills_its_worker(world: World) -> None:
    """Run a job that kills its workers beside harmless ones: it fails, and they complete."""
    worker = _victim(world)
    killer = world.submit("kill_worker", {}, queue="victim", priority=50)
    innocent = [world.submit("work", {"seconds": 1.5}, queue="victim") for _ in range(6)]
    deadline = time.monotonic() + 150
    while world.job(killer)["status"] not in FINAL and time.monotonic() < deadline:
        if not worker.alive:
            world.note("SIGKILL", worker.name, pid=worker.pid)
            worker = _victim(world)
        time.sleep(0.1)
    document = world.job(killer)
    assert document["status"] == "failed", document
    assert "while it ran alone" in document["error"], document
    jobs = [_final(world, job) for job in innocent]
    assert all(job["status"] == "completed" for job in jobs), jobs
    lost = [attempt for job in jobs for attempt in job["attempts"] if attempt["outcome"] == "lost"]
    world.figures["innocents lost"] = float(len(lost))
    assert lost, "the killing job always ran alone, so the scenario has tested nothing"
    assert worker.terminate(60) == 0


def _victim(world: World) -> Member:
    """Start a worker with four slots and a separate queue; return it when it is ready."""
    options = ("--app", "tests.chaos.bad_tasks", "--queues", "victim", "--concurrency", "4", "--processes", "2")
    worker = world.spawn_guest("victim", *options)
    world.until(lambda: worker.ready, 60)
    return worker


def _final(world: World, job: int) -> dict[str, Any]:
    document: dict[str, Any] = world.until(lambda: (j := world.job(job))["status"] in FINAL and j, 90)
    return document


def _with_bad_worker(body: Callable[[World, Member], None]) -> Callable[[World], None]:
    def run(world: World) -> None:
        with _bad_worker(world) as worker:
            body(world, worker)

    return run


SCENARIOS = [
    Scenario(name="24", title="tasks that crash, hang, and eat memory", body=_with_bad_worker(_crashes_and_overruns)),
    Scenario(
        name="38",
        title="a job that kills its worker, beside innocent ones",
        body=_kills_its_worker,
        shape=Shape(workers=2, rate=20),
        tidy=False,
    ),
    Scenario(name="25", title="results that are no JSON", body=_with_bad_worker(_results)),
]
