"""Tests of the export of history: through the API and the client, over many stretches, with every filter."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from taskd.api import history
from taskd.client import Client
from taskd.runtime.serve import Address
from tests.integration.api_stack import api_on
from tests.integration.storage import Storage, spec


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "STRETCH", 3)


@pytest.fixture
async def address(postgres_dsn: str) -> AsyncIterator[Address]:
    async with api_on(postgres_dsn) as address:
        yield address


def without_timeline(job: dict[str, Any]) -> dict[str, Any]:
    """Remove the timeline, which only GET /jobs/{id} has."""
    return {name: value for name, value in job.items() if name != "timeline"}


async def ended(store: Storage, jobs: int, **fields: Any) -> list[int]:
    """Make jobs that completed, and a last one that is cancelled; return their ids."""
    ids = [s.id for s in await store.submit(*[spec('{"ü": 1}', **fields)] * jobs)]
    await store.cancels.cancel(ids[-1:])
    queue = fields.get("queue", "default")
    session = await store.work(f"w{ids[0]}", queues=[queue])
    await store.settle(await store.claim(session, await store.dispatch(await store.lead(), queue=queue)))
    return ids


async def exported(address: Address, **wanted: str) -> list[dict[str, Any]]:
    """Return the export of the client, from a thread as in the command line."""

    def get() -> bytes:
        with Client(address.url) as client:
            return b"".join(client.history(wanted))

    return [json.loads(line) for line in (await asyncio.to_thread(get)).splitlines()]


async def test_all_stretches_are_exported_newest_first(store: Storage, address: Address) -> None:
    ids = await ended(store, 8)
    await store.submit(spec())  # a live job is not in the history
    jobs = await exported(address)
    assert [job["id"] for job in jobs] == ids[::-1]
    async with httpx.AsyncClient(base_url=address.url) as client:
        assert jobs[0] == without_timeline((await client.get(f"/jobs/{ids[-1]}")).json())
        assert jobs[1] == without_timeline((await client.get(f"/jobs/{ids[-2]}")).json())


async def test_filters_also_hold_beyond_empty_stretches(store: Storage, address: Address) -> None:
    rare = await ended(store, 2, queue="rare", task="t")
    await ended(store, 10)
    assert [job["id"] for job in await exported(address, queue="rare")] == rare[::-1]
    assert [job["id"] for job in await exported(address, task="t", status="cancelled")] == rare[-1:]
    assert await exported(address, status="failed") == []


async def test_times_filter_by_the_end(store: Storage, address: Address) -> None:
    early, late = await ended(store, 4), await ended(store, 4)
    first = min(
        [job["completed_at"] for job in await exported(address) if job["id"] in late], key=datetime.fromisoformat
    )
    since, until = await exported(address, since=first), await exported(address, until=first)
    assert sorted(job["id"] for job in since) == late
    assert sorted(job["id"] for job in until) == early


@pytest.mark.parametrize(
    "query", ["since=yesterday", "until=2026-01-01T00:00:00", "status=running", "cursor=0", "limit=5"]
)
async def test_a_bad_parameter_is_named(address: Address, query: str) -> None:
    async with httpx.AsyncClient(base_url=address.url) as client:
        response = await client.get(f"/history?{query}")
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, query.partition("=")[0])
