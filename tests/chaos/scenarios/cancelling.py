"""Cancels that race claims and ends (scenario 33)."""

from __future__ import annotations

from taskd.torture.history import History
from taskd.torture.workload import Workload
from tests.chaos.run import Scenario
from tests.chaos.shape import Shape
from tests.chaos.world import World

CANCELS = 1000


def _await_cancels(world: World) -> None:
    traffic = world.traffic
    assert traffic is not None
    world.until(lambda: len(traffic.accepted) >= 1.2 * CANCELS, 120)


def _figures(history: History, world: World) -> dict[str, float]:
    cancels = [client.op for client in history.clients if client.op in ("cancel_ok", "cancel_late")]
    cancelled = [event for event in history.events if event.to_status == "cancelled"]
    return {
        "missing": float(max(0, CANCELS - len(cancels))),
        "cancelled while pending": float(sum(e.from_status == "pending" for e in cancelled)),
        "while queued": float(sum(e.from_status == "queued" for e in cancelled)),
        "while running": float(sum(e.from_status == "running" for e in cancelled)),
        "too late": float(cancels.count("cancel_late")),
    }


SCENARIOS = [
    Scenario(
        name="33",
        title=f"cancel racing claim and end, {CANCELS:,} times",
        body=_await_cancels,
        shape=Shape(mix=Workload(short=0, long=0, flaky=0, locked=0, twins=0, cancelled=100)),
        bounds={"missing": 0},
        measures=_figures,
    ),
]
