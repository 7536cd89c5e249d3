"""Test `GET /metrics` with more queue names than a scrape may have series."""

from __future__ import annotations

import httpx
import psycopg

from taskd.runtime import meters
from tests.integration.api_stack import api_on

#: Statement that submits one job to each of many queues, and ten more to the last one.
SUBMIT = """
    SELECT count(*) FROM taskd.submit_many((
        SELECT json_agg(json_build_object('task', 't', 'payload', n, 'queue', 'q-' || least(n, %(queues)s)))
        FROM generate_series(1, %(queues)s + 10) n))
"""
QUEUES = 3000


def value(text: str, series: str) -> float:
    (line,) = (line for line in text.splitlines() if line.startswith(f"{series} "))
    return float(line.rpartition(" ")[2])


async def test_queues_with_most_jobs_have_series_and_the_others_one_together(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(SUBMIT, {"queues": QUEUES})
    async with api_on(postgres_dsn) as address, httpx.AsyncClient(base_url=address.url, trust_env=False) as client:
        response = await client.get("/metrics", headers={"accept": "text/plain"})
        text = response.raise_for_status().text
    pending = [line for line in text.splitlines() if line.startswith("taskd_jobs{") and 'status="pending"' in line]
    assert len(pending) == meters.MOST_QUEUES + 1
    assert value(text, f'taskd_jobs{{queue="q-{QUEUES}",status="pending"}}') == 11
    others = QUEUES - meters.MOST_QUEUES
    assert value(text, f'taskd_jobs{{queue="{meters.OTHERS}",status="pending"}}') == others
    assert value(text, "taskd_queues_left_out") == others
