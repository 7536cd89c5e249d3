"""Jobs that are submitted by the thousand: over HTTP, from Python, and in SQL."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg

from bench.rig import Rig, RunningProcess, batch, post
from taskd import App


def submit_batches(scheduler: RunningProcess, jobs: int, task: str, payload: object = None) -> float:
    """Return jobs/s of batches of a thousand, one after another."""
    body = batch(task, payload or {})
    with httpx.Client(timeout=60) as client:
        post(client, f"{scheduler.url}/jobs/batch", body)
        began = time.perf_counter()
        for _ in range(jobs // 1000 - 1):
            post(client, f"{scheduler.url}/jobs/batch", body)
        return (jobs - 1000) / (time.perf_counter() - began)


def submit_at_once(scheduler: RunningProcess, jobs: int, connections: int) -> float:
    """Return jobs/s of batches of a thousand on several connections that send again at once after a response."""
    each = jobs // connections

    def submit(_: int) -> None:
        submit_batches(scheduler, each, "noop")

    with ThreadPoolExecutor(connections) as pool:
        began = time.perf_counter()
        list(pool.map(submit, range(connections)))
        return each * connections / (time.perf_counter() - began)


def submit_from_python(scheduler: RunningProcess, jobs: int) -> float:
    """Return jobs/s of `submit_many` in one process.

    Four calls of a thousand jobs run at a time, each followed by the next at once.
    """

    async def submit() -> float:
        app = App(server=scheduler.url)

        @app.task
        async def noop(sent: int) -> None: ...

        async def submit_batches_of_jobs(calls: int) -> None:
            for _ in range(calls):
                await noop.submit_many([{"sent": 0}] * 1000)

        began, calls = time.perf_counter(), jobs // 4000
        await asyncio.gather(*(submit_batches_of_jobs(calls) for _ in range(4)))
        rate = calls * 4000 / (time.perf_counter() - began)
        await app.aclose()
        return rate

    return asyncio.run(submit())


def submit_in_sql(cluster: Rig, jobs: int) -> float:
    """Return jobs/s of `taskd.submit_many` on one connection: a thousand jobs a statement and transaction."""
    document = json.dumps([{"task": "noop", "payload": {}}] * 1000)
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute("SELECT count(*) FROM taskd.submit_many(%s)", [document], prepare=True)
        began = time.perf_counter()
        for _ in range(jobs // 1000):
            connection.execute("SELECT count(*) FROM taskd.submit_many(%s)", [document], prepare=True)
        return jobs // 1000 * 1000 / (time.perf_counter() - began)
