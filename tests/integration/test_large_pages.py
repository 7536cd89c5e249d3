"""Tests of pages of large rows: they end at a budget of bytes, and skip no row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest

from taskd.client import Client
from taskd.client.asynchronous import AsyncClient
from taskd.domain.job import Ended, JobFilter, JobStatus
from taskd.domain.output import StoredChunk
from taskd.runtime.serve import Address
from taskd.store import config, lane, logs, reads, schedules
from tests.integration.api_stack import api_on
from tests.integration.storage import Storage, spec

BUDGET = 100_000
BIG = json.dumps("x" * 30_000)  # which PostgreSQL stores in some 400 bytes


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reads, schedules, config, logs):
        monkeypatch.setattr(module, "PAGE_BYTES", BUDGET)


@pytest.fixture
async def address(postgres_dsn: str) -> AsyncIterator[Address]:
    async with api_on(postgres_dsn) as address:
        yield address


async def half_finished(store: Storage, count: int = 24) -> list[int]:
    """Submit large jobs and cancel every other one; return the ids, newest first."""
    ids = [s.id for s in await store.submit(*[spec(BIG)] * count)]
    await store.cancels.cancel(ids[::2])
    return ids[::-1]


def test_a_page_is_eight_megabytes() -> None:
    assert lane.PAGE_BYTES == 8 * 1024 * 1024


@pytest.mark.parametrize("query", ["", "?status=pending", "?status=cancelled", "?limit=3", "?limit=1"])
async def test_a_list_goes_on_where_its_budget_ended(store: Storage, address: Address, query: str) -> None:
    ids = await half_finished(store)
    expected = ids if "status" not in query else ids[0::2] if "pending" in query else ids[1::2]
    entries: list[int] = []
    path: str | None = f"/jobs{query}"
    async with httpx.AsyncClient(base_url=address.url) as http:
        while path is not None:
            response = await http.get(path)
            assert len(response.content) < BUDGET + 2 * len(BIG)
            assert response.json()
            entries += [job["id"] for job in response.json()]
            path = response.links["next"]["url"] if "next" in response.links else None
    assert entries == expected


async def test_the_store_reads_no_more_than_a_page(store: Storage) -> None:
    await half_finished(store)
    page = await store.overview.jobs(JobFilter(status=JobStatus.PENDING, limit=1000))
    assert (len(page.jobs), page.more) == (4, True)
    mixed = await store.overview.jobs(JobFilter(limit=1000))
    assert (len(mixed.jobs), mixed.more) == (4, True)


async def test_one_job_that_is_larger_than_a_page_is_a_page(store: Storage, address: Address) -> None:
    ids = [s.id for s in await store.submit(*[spec(json.dumps("x" * 2 * BUDGET))] * 3)]
    async with httpx.AsyncClient(base_url=address.url) as http:
        first = await http.get("/jobs")
        assert [job["id"] for job in first.json()] == ids[:1:-1]
        assert first.links["next"]["url"] == f"/jobs?cursor={ids[2]}"


async def test_the_clients_join_a_page(store: Storage, address: Address) -> None:
    ids = await half_finished(store)

    def asked(limit: int | None) -> list[int]:
        with Client(address.url) as client:
            return [job["id"] for job in client.list_jobs(limit=limit)]

    assert await asyncio.to_thread(asked, 20) == ids[:20]
    assert await asyncio.to_thread(asked, None) == ids
    async with AsyncClient(address.url) as client:
        assert [job["id"] for job in await client.list_jobs(limit=20)] == ids[:20]


async def test_history_goes_on_where_its_budget_ended(store: Storage, address: Address) -> None:
    ids = (await half_finished(store))[1::2]

    def exported(**filters: str) -> list[list[int]]:
        with Client(address.url) as client:
            return [[json.loads(line)["id"] for line in page.splitlines()] for page in client.history(filters)]

    for filters in ({}, {"status": "cancelled"}, {"logs": "true"}):
        pages = await asyncio.to_thread(exported, **filters)
        assert [job_id for page in pages for job_id in page] == ids
        assert max(map(len, pages)) == 4
    assert [job_id for page in await asyncio.to_thread(exported, queue="other") for job_id in page] == []


async def test_the_output_of_attempts_counts_too(store: Storage, address: Address, postgres_dsn: str) -> None:
    ids = [s.id for s in await store.submit(*[spec("1")] * 6)]
    await store.cancels.cancel(ids)
    with psycopg.connect(postgres_dsn) as connection:
        for job_id in ids:
            connection.execute(
                "INSERT INTO taskd.logs (job_id, attempt, line, lines, body) VALUES (%s, 1, 1, 1, %s)",
                [job_id, json.dumps([[1.0, "stdout", "", "y" * 60_000]])],
            )
    output: dict[int, list[StoredChunk]] = await store.transcripts.of(ids[::-1])
    assert list(output) == ids[:3:-1]

    def exported() -> list[list[int]]:
        with Client(address.url) as client:
            return [
                [len(json.loads(line)["logs"]) for line in page.splitlines()]
                for page in client.history({"logs": "true"})
            ]

    assert await asyncio.to_thread(exported) == [[1, 1]] * 3


async def test_a_stretch_without_matching_jobs_has_a_next_one(store: Storage) -> None:
    await half_finished(store)
    filters = Ended(since=None, until=None, status=None, queue="other", task=None, before=2**62, limit=5)
    stretch = await store.overview.ended(filters)
    assert (stretch.jobs, stretch.next is not None) == ([], True)


async def test_schedules_and_versions_go_on_too(address: Address) -> None:
    async with httpx.AsyncClient(base_url=address.url) as http:
        for n in range(6):
            plan = {"every": 60, "job": {"payload": "x" * 30_000}}
            assert (await http.put(f"/schedules/s{n}", json=plan)).status_code == 201
            await http.put(f"/config/queue.q{n}.weight", json={"value": n + 1})
        for path, name, expected in (
            ("/schedules", "name", [f"s{n}" for n in range(6)]),
            ("/config/history?limit=2", "version", [6, 5, 4, 3, 2, 1]),
        ):
            entries, pages, following = [], 0, path
            while following:
                response = await http.get(following)
                entries += [row[name] for row in response.json()]
                following = response.links["next"]["url"] if "next" in response.links else ""
                pages += 1
            assert (entries, pages > 1) == (expected, True)
