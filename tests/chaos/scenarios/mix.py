"""All kinds of faults in random order (scenarios 23 and 36)."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from taskd.torture.history import History
from taskd.torture.workload import Workload
from tests.chaos import measure
from tests.chaos.author import AuthorWorkload
from tests.chaos.run import Scenario
from tests.chaos.scenarios import schedules
from tests.chaos.shape import LINKS, Shape
from tests.chaos.world import World, signal_all

Fault = Callable[[World], None]


def _kill_a_scheduler(world: World) -> None:
    world.kill(world.random.choice(world.schedulers))


def _kill_a_worker(world: World) -> None:
    world.kill(world.random.choice(world.workers))


def _terminate_a_member(world: World) -> None:
    world.terminate(world.random.choice([*world.schedulers, *world.workers]))


def _freeze_a_member(world: World) -> None:
    member = world.random.choice([*world.schedulers, *world.workers])
    with world.frozen(member, whole=world.random.random() < 0.5):
        world.flow(world.random.uniform(1, 12))


def _kill_executors(world: World) -> None:
    worker = world.random.choice(world.workers)
    world.note("SIGKILL executors", worker.name)
    signal_all(worker.executors, signal.SIGKILL)


def _flush(world: World) -> None:
    world.note("FLUSHALL", "redis")
    world.redis.flush()


def _restart(world: World) -> None:
    name = world.random.choice(LINKS)
    server = world.server(name)
    with world.fault("SIGKILL", name, "restart"):
        server.kill()
        world.flow(world.random.uniform(0, 5))
        server.start()


def _freeze_a_server(world: World) -> None:
    with world.standstill(world.random.choice(LINKS)):
        world.flow(world.random.uniform(1, 10))


def _disturb_a_link(world: World) -> None:
    member = world.random.choice([*world.schedulers, *world.workers])
    server = world.random.choice(LINKS)
    link = world.link(member.name, server)
    with world.fault("link", f"{member.name}-{server}"):
        kind = world.random.randrange(4)
        if kind == 0:
            link.hole(up=True, down=True)
        elif kind == 1:
            link.hole(up=False, down=True)
        elif kind == 2:
            link.cut()
        else:
            link.delay(0.0, 0.3)
        world.flow(world.random.uniform(1, 10))
        link.heal()


FAULTS: tuple[Fault, ...] = (
    _kill_a_scheduler,
    _kill_a_worker,
    _terminate_a_member,
    _freeze_a_member,
    _kill_executors,
    _flush,
    _restart,
    _freeze_a_server,
    _disturb_a_link,
)


def _random_faults(world: World, minutes: float) -> None:
    end = time.monotonic() + 60 * minutes
    injected = 0
    while time.monotonic() < end:
        world.flow(world.random.uniform(0.5, 3))
        world.random.choice(FAULTS)(world)
        injected += 1
        if world.random.random() < 0.7 or not world.schedulers or len(world.workers) < 2:
            world.revive()
    world.figures["faults"] = float(injected)


def _random_faults_under_authors(world: World, minutes: float) -> None:
    """Inject the same faults under the authors' tasks and schedules."""
    with schedules.ticking(world, schedules.ALLOWED | schedules.EXCLUSIVE):
        _random_faults(world, minutes)


def _figures(history: History, world: World) -> dict[str, float]:
    return {
        "attempts": float(len(measure.moves(history, "running"))),
        "takeovers": float(sum(term.what == "takeover" for term in history.terms)),
        "sessions reaped": float(measure.reaped(history)),
    }


def scenarios(minutes: float) -> list[Scenario]:
    """Return the random mixes with a length of `minutes`."""
    return [
        Scenario(
            name="23",
            title=f"a random mix for {minutes:g} min",
            body=lambda world: _random_faults(world, minutes),
            shape=Shape(proxied=True, mix=Workload(cancelled=2.0)),
            measures=_figures,
        ),
        Scenario(
            name="36",
            title=f"a random mix for {minutes:g} min, with schedules and authors' tasks",
            body=lambda world: _random_faults_under_authors(world, minutes),
            shape=Shape(proxied=True, app="tests.chaos.author", mix=AuthorWorkload(cancelled=2.0), rate=20),
            measures=lambda history, world: _figures(history, world) | schedules.figures(history, world),
        ),
    ]
