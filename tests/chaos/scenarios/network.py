"""Links cut in one or both directions, and slow links (scenarios 21 and 22)."""

from __future__ import annotations

from typing import Literal

from taskd.torture.history import History
from tests.chaos import measure
from tests.chaos.run import Scenario
from tests.chaos.shape import LINKS, Shape
from tests.chaos.world import World

RoleName = Literal["leader", "worker"]

#: Seconds of a cut: longer than a session and than etcd's lease.
CUT = 12.0
PROXIED = Shape(proxied=True)
WAYS = {(True, True): "both ways", (False, True): "answers", (True, False): "requests"}


def _cut(world: World, role: RoleName, server: str) -> None:
    """Cut both directions, then only answers, then only requests; a worker's tasks run for longer than its lease."""
    for up, down in ((True, True), (False, True), (True, False)):
        world.flow(2)
        if role == "worker":
            for _ in range(8):
                world.submit("nap", {"seconds": 1.5 * CUT})
            member = world.until(
                lambda: next((w for w in world.workers if w.json("/metrics").get("running", 0) >= 4), None)
            )
        else:
            member = world.leader()
        link = world.link(member.name, server)
        with world.fault(f"cut {WAYS[up, down]}", f"{member.name}-{server}"):
            link.hole(up=up, down=down)
            world.flow(CUT)
            link.heal()
        world.until(lambda: all(m.ready for m in world.members.values()), 60)
    world.flow(2)


def _figures(history: History, world: World) -> dict[str, float]:
    cuts = [fault for fault in history.faults if fault.what.startswith("cut")]
    restarts = [
        seconds
        for cut, following in zip(cuts, [*(later.at for later in cuts[1:]), float("inf")], strict=True)
        for seconds in measure.restarts(history, cut.target.partition("-")[0], cut.at, following)
    ]
    return {
        "gap": measure.gap(history, history.meta.load_from, history.meta.load_until),
        "restart": max(restarts, default=float("inf")),
        "longest wait": max(measure.waits(history), default=float("inf")),
    }


def _slow(world: World) -> None:
    """Delay all links for 25 s. Latency costs slots, since an attempt holds one for some round trips."""
    world.flow(4)
    with world.fault("delay", "all links"):
        for member in world.members.values():
            for server in LINKS:
                world.link(member.name, server).delay(0.0, 0.4, up=False)  # the delay of a round trip
        world.flow(25)
        for member in world.members.values():
            for server in LINKS:
                world.link(member.name, server).heal()
    world.flow(3)


def _starts(history: History, world: World) -> dict[str, float]:
    begin = next(f.at for f in history.faults if f.what == "delay")
    end = next(f.at for f in history.faults if f.what == "heal")
    seconds = [delay for _, delay in measure.starts(history, begin + 1, end - 4)]
    return {"start p50": measure.percentile(seconds, 50), "start p99": measure.percentile(seconds, 99)}


CUTS: tuple[tuple[str, RoleName, str, dict[str, float]], ...] = (
    ("21a", "leader", "etcd", {"gap": 10}),
    ("21b", "leader", "postgres", {"gap": 10}),
    ("21c", "worker", "postgres", {"gap": 10, "restart": 20}),
    # An entry on its way to the worker stays pending for it until another one adopts it, after claim_idle (4 s here).
    ("21d", "worker", "redis", {"gap": 10, "longest wait": 12}),
)

SCENARIOS = [
    *(
        Scenario(
            name=name,
            title=f"{role}-{server} cut",
            body=lambda world, role=role, server=server: _cut(world, role, server),  # type: ignore[misc]  # bound at once
            shape=PROXIED,
            bounds=bounds,
            measures=_figures,
        )
        for name, role, server, bounds in CUTS
    ),
    Scenario(
        name="22",
        title="200 ± 200 ms on every link",
        body=_slow,
        shape=Shape(proxied=True, slots=50),
        bounds={"start p99": 3},
        measures=_starts,
    ),
]
