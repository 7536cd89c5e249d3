"""All processes restarted in turn, as a deploy does (scenario 32)."""

from __future__ import annotations

import threading

from taskd.client import Client
from taskd.torture.history import History
from tests.chaos import measure
from tests.chaos.run import Scenario
from tests.chaos.world import World


def _rolling(world: World) -> None:
    """Terminate and restart each scheduler and worker, while the command line's client submits without a pause."""
    stop, errors = threading.Event(), list[str]()
    submitted = list[int]()

    def submit() -> None:
        with Client(",".join(world.urls)) as client:
            while not stop.wait(0.02):
                try:
                    key = f"rolling-{len(submitted) + len(errors)}"
                    submitted.append(
                        client.submit({"task": "nap", "payload": {"seconds": 0.01}, "dedupe_key": key})["id"]
                    )
                except Exception as error:
                    errors.append(str(error))

    thread = threading.Thread(target=submit, daemon=True)
    thread.start()
    try:
        for member in [*world.schedulers, *world.workers]:
            world.terminate(member)
            assert member.status == 0, member.output[-1000:]
            world.revive()
    finally:
        stop.set()
        thread.join(30)
    assert not errors, errors[:3]
    world.figures["submits"] = float(len(submitted))
    world.figures["errors"] = float(len(errors))


def _figures(history: History, world: World) -> dict[str, float]:
    assert world.traffic is not None
    return {
        "reaped": float(measure.reaped(history)),
        "lost runs": float(sum(job.losses for job in history.jobs)),
        "gap": measure.gap(history, history.meta.load_from, history.meta.load_until),
    }


SCENARIOS = [
    Scenario(
        name="32",
        title="rolling restart of everything",
        body=_rolling,
        bounds={"errors": 0, "reaped": 0, "lost runs": 0, "gap": 2},
        measures=_figures,
    ),
]
