"""Tests of a worker's /alive, /health and /metrics, and of its entry in the registry."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import MagicMock

import httpx
from prometheus_client.parser import text_string_to_metric_families

from taskd.domain.health import Health
from taskd.runtime import meters
from taskd.settings import WorkerSettings
from taskd.worker.http import build
from taskd.worker.role import WorkerRole


class FakeRole:
    """A role with one figure."""

    worker_id = "w1"
    measured = 0

    working = False

    def components(self) -> dict[str, Health]:
        return {"etcd": Health(ok=False, since=0.0, detail="away")}

    def measure(self) -> None:
        self.measured += 1
        meters.SLOTS.set(8)

    def stats(self) -> dict[str, float]:
        return {"running": 3.0}


async def test_metrics_are_the_workers_figures_and_the_tasks_of_its_process() -> None:
    app = build(cast("WorkerRole", FakeRole()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as client:
        metrics = (await client.get("/metrics")).json()
    assert (metrics["worker_id"], metrics["running"]) == ("w1", 3.0)
    assert metrics["event_loop_tasks"] >= 1


async def test_a_worker_that_cannot_work_is_alive_all_the_same() -> None:
    app = build(cast("WorkerRole", FakeRole()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as client:
        health, alive = await client.get("/health"), await client.get("/alive")
    assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
    assert health.json()["coordinator_health"] is False
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})


async def test_prometheus_gets_text() -> None:
    role = FakeRole()
    app = build(cast("WorkerRole", role))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as client:
        response = await client.get("/metrics", headers={"Accept": "text/plain;version=0.0.4"})
    assert role.measured == 1
    samples = {
        s.name: s.value for f in text_string_to_metric_families(response.text) for s in f.samples if not s.labels
    }
    assert samples["taskd_slots"] == 8
    assert 'taskd_up{server="etcd"} 0.0' in response.text


def test_the_registry_has_the_lease_of_a_worker() -> None:
    names = "sessions transport coordinator attempts executors fetcher renewer postgres redis"
    parts: dict[str, Any] = {name: MagicMock() for name in names.split()}
    role = WorkerRole(worker_id="w1", settings=WorkerSettings(session_ttl=7.0), queues=("default",), **parts)
    assert role.member(MagicMock()).lease == 7.0
