"""Outages of etcd, and etcd wiped or restored from an old snapshot (scenarios 18 to 20)."""

from __future__ import annotations

import shutil
import time

from taskd.torture.history import History
from taskd.torture.workload import Workload
from tests.chaos import measure
from tests.chaos.run import Scenario
from tests.chaos.shape import Shape
from tests.chaos.world import World


def _killed(world: World) -> None:
    world.flow(3)
    with world.fault("SIGKILL", "etcd", "restart"):
        world.etcd.kill()
        world.flow(20)
        world.etcd.start()
    world.flow(6)


def _frozen(world: World) -> None:
    world.flow(3)
    with world.standstill("etcd"):
        world.flow(10)
    world.flow(6)


def _killed_then_the_leader(world: World) -> None:
    world.flow(3)
    with world.fault("SIGKILL", "etcd", "restart"):
        world.etcd.kill()
        world.flow(4)
        leader = world.leader()
        world.kill(leader)
        world.leader(among=[s for s in world.schedulers if s is not leader])
        world.flow(4)
        world.etcd.start()
    world.flow(4)


def _wiped(world: World) -> None:
    """Wipe etcd, twice: its revisions begin at 1 again, below those of the election that PostgreSQL has stored."""
    for _ in range(2):
        world.flow(3)
        with world.fault("wipe", "etcd"):
            world.etcd.wipe()
            world.etcd.start()
        world.flow(6)  # longer than a lease of the wiped etcd: its holder knows of the loss by now
        _one_leader(world)
        world.flow(3)
    leader = world.leader()
    world.kill(leader)
    _one_leader(world)
    world.healed()


def _restored(world: World) -> None:
    """Restore older data, as from a snapshot, with leases and an election that have ended since."""
    old = world.folder / "etcd-snapshot"
    world.etcd.stop()
    shutil.copytree(world.etcd.folder, old)
    world.etcd.start()
    _one_leader(world)
    world.kill(world.leader())  # the next election outdates the snapshot's
    _one_leader(world)
    world.revive()
    world.flow(2)
    with world.fault("restore", "etcd"):
        world.etcd.wipe()
        shutil.copytree(old, world.etcd.folder)
        world.etcd.start()
    world.flow(6)
    _one_leader(world)
    world.flow(3)
    world.kill(world.leader())
    _one_leader(world)
    world.healed()


def _one_leader(world: World) -> None:
    began = time.monotonic()
    world.leader()
    world.figures["one leader"] = max(world.figures.get("one leader", 0.0), time.monotonic() - began)


def _figures(history: History, world: World) -> dict[str, float]:
    return {
        "gap": measure.gap(history, history.meta.load_from, history.meta.load_until),
        "reaped": float(measure.reaped(history)),
        "cut short": float(measure.cut_short(history)),
    }


SCENARIOS = [
    Scenario(
        name="18a",
        title="etcd killed 20 s",
        body=_killed,
        bounds={"gap": 2, "reaped": 0, "cut short": 0},
        measures=_figures,
    ),
    Scenario(
        name="18b",
        title="etcd frozen 10 s",
        body=_frozen,
        bounds={"gap": 2, "reaped": 0, "cut short": 0},
        measures=_figures,
    ),
    Scenario(
        name="19",
        title="etcd killed, then the leader",
        body=_killed_then_the_leader,
        bounds={"gap": 20, "reaped": 0, "cut short": 0},
        measures=_figures,
    ),
    Scenario(
        name="20a",
        title="etcd wiped",
        body=_wiped,
        bounds={"one leader": 15, "gap": 15, "reaped": 0, "cut short": 0},
        measures=_figures,
    ),
    Scenario(
        name="20b",
        title="an old snapshot of etcd restored",
        body=_restored,
        # etcd's revisions repeat after that, and with them the locks' fences. An operator restores it empty instead.
        shape=Shape(mix=Workload(locked=0)),
        bounds={"one leader": 15, "gap": 15, "reaped": 0, "cut short": 0},
        measures=_figures,
    ),
]
