"""The worker's own /metrics."""

from __future__ import annotations

from typing import cast

import httpx

from taskd.worker.http import build
from taskd.worker.role import WorkerRole


class StandIn:
    """A role with one figure."""

    worker_id = "w1"

    def stats(self) -> dict[str, float]:
        return {"running": 3.0}


async def test_metrics_are_the_workers_figures_and_the_tasks_of_its_process() -> None:
    app = build(cast("WorkerRole", StandIn()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as client:
        found = (await client.get("/metrics")).json()
    assert (found["worker_id"], found["running"]) == ("w1", 3.0)
    assert found["event_loop_tasks"] >= 1
