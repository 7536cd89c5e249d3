"""User code that does its worst (scenarios 24 and 25)."""

from __future__ import annotations

from typing import Any

from tests.chaos.bad_tasks import RESULTS
from tests.chaos.run import Scenario
from tests.chaos.world import World

FINAL = ("completed", "failed", "cancelled")
BACKOFF = {"initial": 0.1, "factor": 1, "max": 1, "jitter": True}
#: A word of the error that each of these must end with.
CRASHES = {"segfault": "SIGSEGV", "leave": "status 3", "eat": "MemoryError"}
OVERRUNS = ("spin", "ignore", "stubborn")
ERRORS = {"nul": "NUL", "nan": "NaN", "huge": "at most", "bytes": "bytes", "object": "object"}


def _worst(world: World) -> None:
    worker = world.spawn_worker("w9", "--app", "tests.chaos.bad_tasks", "--queues", "bad")
    world.until(lambda: worker.ready, 60)
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
    world.terminate(worker)
    del world.members["w9"]


def _results(world: World) -> None:
    worker = world.spawn_worker("w9", "--app", "tests.chaos.bad_tasks", "--queues", "bad")
    world.until(lambda: worker.ready, 60)
    jobs = {name: world.submit("give", {"name": name}, queue="bad", max_retries=0) for name in RESULTS}
    for name, job in jobs.items():
        found = _final(world, job)
        assert found["status"] == "failed", (name, found)
        assert ERRORS[name].lower() in found["error"].lower(), (name, found["error"])
    world.terminate(worker)
    del world.members["w9"]


def _final(world: World, job: int) -> dict[str, Any]:
    found: dict[str, Any] = world.until(lambda: (j := world.job(job))["status"] in FINAL and j, 90)
    return found


SCENARIOS = [
    Scenario(name="24", title="tasks that crash, hang, and eat memory", body=_worst),
    Scenario(name="25", title="results that are no JSON", body=_results),
]
