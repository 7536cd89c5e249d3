"""User code that does its worst (scenarios 24 and 25)."""

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
#: A word of the error that each of these must end with.
CRASHES = {"segfault": "SIGSEGV", "leave": "status 3", "eat": "MemoryError"}
OVERRUNS = ("spin", "ignore", "stubborn")
ERRORS = {"nul": "NUL", "nan": "NaN", "huge": "at most", "bytes": "bytes", "object": "object"}


@contextmanager
def _bad_worker(world: World) -> Iterator[Member]:
    """A worker with the bad tasks, on a queue of its own; it is none of the members that are kept alive."""
    worker = world.spawn_guest("bad", "--app", "tests.chaos.bad_tasks", "--queues", "bad")
    world.until(lambda: worker.ready, 60)
    yield worker
    assert worker.terminate(60) == 0


def _worst(world: World, worker: Member) -> None:
    pid = worker.pid
    common = {"queue": "bad", "retry_backoff": BACKOFF, "max_retries": 1}
    jobs = {task: world.submit(task, {}, **common) for task in CRASHES}
    jobs |= {task: world.submit(task, {}, timeout=1.0, **common) for task in OVERRUNS}
    found = {task: _final(world, job) for task, job in jobs.items()}
    for task, job in found.items():
        assert job["status"] == "failed", (task, job)
    for task in ("segfault", "leave"):
        crashed = [a for a in found[task]["attempts"] if a["outcome"] == "crashed"]
        assert len(crashed) == 3, found[task]
    for task, words in CRASHES.items():
        assert words in found[task]["error"], (task, found[task]["error"])
    assert worker.alive
    assert worker.pid == pid
    neighbour = world.submit("give", {"name": "nan"}, queue="bad", max_retries=0)
    assert _final(world, neighbour)["status"] == "failed"


def _results(world: World, worker: Member) -> None:
    jobs = {name: world.submit("give", {"name": name}, queue="bad", max_retries=0) for name in RESULTS}
    for name, job in jobs.items():
        found = _final(world, job)
        assert found["status"] == "failed", (name, found)
        assert ERRORS[name].lower() in found["error"].lower(), (name, found["error"])


def _slays(world: World) -> None:
    """A job kills each worker that runs it, beside jobs that do no harm: it fails, and they complete."""
    worker = _prey(world)
    guilty = world.submit("slay", {}, queue="prey", priority=50)
    innocent = [world.submit("toil", {"seconds": 1.5}, queue="prey") for _ in range(6)]
    deadline = time.monotonic() + 150
    while world.job(guilty)["status"] not in FINAL and time.monotonic() < deadline:
        if not worker.alive:
            world.note("SIGKILL", worker.name, pid=worker.pid)
            worker = _prey(world)
        time.sleep(0.1)
    found = world.job(guilty)
    assert found["status"] == "failed", found
    assert "while it ran alone" in found["error"], found
    jobs = [_final(world, job) for job in innocent]
    assert all(job["status"] == "completed" for job in jobs), jobs
    lost = [attempt for job in jobs for attempt in job["attempts"] if attempt["outcome"] == "lost"]
    world.figures["innocents lost"] = float(len(lost))
    assert lost, "the guilty job never had company: that shows nothing"
    assert worker.terminate(60) == 0


def _prey(world: World) -> Member:
    """A worker with four slots and a queue of its own."""
    options = ("--app", "tests.chaos.bad_tasks", "--queues", "prey", "--concurrency", "4", "--processes", "2")
    worker = world.spawn_guest("prey", *options)
    world.until(lambda: worker.ready, 60)
    return worker


def _final(world: World, job: int) -> dict[str, Any]:
    found: dict[str, Any] = world.until(lambda: (j := world.job(job))["status"] in FINAL and j, 90)
    return found


def _with_bad_worker(body: Callable[[World, Member], None]) -> Callable[[World], None]:
    def run(world: World) -> None:
        with _bad_worker(world) as worker:
            body(world, worker)

    return run


SCENARIOS = [
    Scenario(name="24", title="tasks that crash, hang, and eat memory", body=_with_bad_worker(_worst)),
    Scenario(
        name="38",
        title="a job that kills its worker, beside innocent ones",
        body=_slays,
        shape=Shape(workers=2, rate=20),
        tidy=False,
    ),
    Scenario(name="25", title="results that are no JSON", body=_with_bad_worker(_results)),
]
