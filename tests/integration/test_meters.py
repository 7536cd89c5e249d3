"""Test the metrics of schedulers and workers for Prometheus: content negotiation, names and types."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskd.runtime import meters
from tests.integration.api_stack import api_on
from tests.integration.storage import Storage, spec

#: The Accept header of Prometheus.
SCRAPE = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"}
PLAIN = {"Accept": "text/plain"}


@pytest.fixture
async def client(postgres_dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_on(postgres_dsn) as address, httpx.AsyncClient(base_url=address.url) as client:
        yield client


async def figures(client: httpx.AsyncClient) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return each sample by its name and the values of its labels."""
    text = (await client.get("/metrics", headers=PLAIN)).text
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_people_get_json_and_prometheus_gets_text(client: httpx.AsyncClient) -> None:
    assert (await client.get("/metrics")).headers["content-type"] == "application/json"
    assert (await client.get("/metrics", headers={"Accept": "application/json"})).json()["pending_jobs"] == 0
    scraped = await client.get("/metrics", headers=SCRAPE)
    assert scraped.headers["content-type"].startswith("application/openmetrics-text")
    assert scraped.text.endswith("# EOF\n")


async def test_jobs_are_counted_by_queue_and_status(client: httpx.AsyncClient, postgres_dsn: str) -> None:
    store = Storage(postgres_dsn)
    await store.submit(spec(), spec(), spec(queue="other"), spec(delay=60.0, queue="later"))
    await store.dispatch(await store.lead(), queue="other")
    samples = await figures(client)
    await store.close()
    assert samples["taskd_jobs", ("default", "pending")] == 2
    assert (samples["taskd_jobs", ("other", "pending")], samples["taskd_jobs", ("other", "queued")]) == (0, 1)
    assert samples["taskd_oldest_pending_seconds", ("default",)] > 0
    assert samples["taskd_oldest_pending_seconds", ("later",)] == 0
    assert samples["taskd_finished_jobs", ("completed",)] == 0


async def test_what_this_scheduler_did_is_counted(client: httpx.AsyncClient) -> None:
    before = await figures(client)
    await client.post("/jobs", json={"payload": 1, "dedupe_key": "k"})
    await client.post("/jobs", json={"payload": 1, "dedupe_key": "k"})
    after = await figures(client)

    def rise(name: str) -> float:
        return after[name, ()] - before[name, ()]

    assert rise("taskd_submitted_jobs_total") == 1
    assert rise("taskd_duplicate_submits_total") == 1
    assert rise("taskd_submit_seconds_count") == 2
    assert after["taskd_up", ("postgres",)] == 1


async def test_many_queues_have_few_series_and_the_others_are_counted_together(
    client: httpx.AsyncClient, postgres_dsn: str
) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute(
            "INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, created_at, schedule_at, payload)"
            " SELECT n, 'default', 'q' || n % 20000, 0, 3, '{}', now(), now(), 'null' FROM generate_series(1, 20003) n"
        )
    samples = await figures(client)
    queues = {labels[0] for name, labels in samples if name == "taskd_jobs"}
    assert len(queues) == 501
    assert {"q1", "q2", "q3", meters.OTHERS} <= queues
    assert samples["taskd_jobs", ("q1", "pending")] == 2
    assert samples["taskd_jobs", (meters.OTHERS, "pending")] == 20_003 - 3 * 2 - 497
    assert samples["taskd_queues_left_out", ()] == 19_500
    shown = (await client.get("/queues")).json()
    assert (len(shown["queues"]), shown["left_out"]) == (500, 19_500)
    assert len((await client.get("/metrics", headers=PLAIN)).content) < 300_000


async def test_scrapes_at_once_do_not_empty_each_others_figures(client: httpx.AsyncClient, postgres_dsn: str) -> None:
    store = Storage(postgres_dsn)
    await store.submit(*[spec(queue=f"q{n}") for n in range(100)])
    await store.close()
    for samples in await asyncio.gather(*[figures(client) for _ in range(8)]):
        assert sum(value for (name, _), value in samples.items() if name == "taskd_jobs") == 100
