"""Tasks whose transactions complete their jobs, with kills and racing cancels (scenario 37)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg

from taskd.client import Client, ClientError
from tests.chaos.run import Scenario
from tests.chaos.transfer_tasks import SCHEMA
from tests.chaos.world import World

TRANSFERS, BATCH = 200, 20
UNFINISHED = "SELECT count(*) FROM taskd.jobs WHERE task = 'transfer'"
#: Bookings of attempts that did not complete their job, and completed jobs without exactly one booking.
STRAYED = """
    SELECT (SELECT count(*) FROM booked b WHERE NOT EXISTS (
               SELECT FROM taskd.finished_jobs f WHERE f.id = b.job AND f.attempt = b.attempt AND f.status = 'completed'))
         + (SELECT count(*) FROM taskd.finished_jobs f WHERE f.task = 'transfer' AND f.status = 'completed' AND (
               SELECT count(*) FROM booked b WHERE b.job = f.id) <> 1)
"""


def _transfers(world: World) -> None:
    with psycopg.connect(world.postgres.dsn) as connection:
        connection.execute(SCHEMA.encode())
    worker = world.spawn_guest("banker", "--app", "tests.chaos.transfer_tasks", "--queues", "transfers")
    world.until(lambda: worker.ready, 60)
    with Client(",".join(scheduler.url for scheduler in world.schedulers)) as client:
        for first in range(0, TRANSFERS, BATCH):
            server = world.schedulers[0].url
            jobs = client.submit_batch([_transfer(number, server) for number in range(first, first + BATCH)])
            for job in jobs[::4]:  # before their start, half-way, at their end, or too late
                with suppress(ClientError):
                    client.cancel(job)
    with psycopg.connect(world.postgres.dsn, autocommit=True) as connection:
        world.until(lambda: connection.execute(UNFINISHED).fetchone() == (0,), 90)
    assert worker.terminate(60) == 0


def _transfer(number: int, server: str) -> dict[str, Any]:
    payload = {
        "seconds": 0.02 * (number % BATCH),
        "crash": number % 50 == 7,
        "cancel": server if number % 10 == 3 else "",
    }
    return {"task": "transfer", "queue": "transfers", "payload": payload, "retry_backoff": {"initial": 0.1}}


def _run(world: World) -> None:
    _transfers(world)
    with psycopg.connect(world.postgres.dsn) as connection:
        rows = connection.execute(
            "SELECT status, count(*) FROM taskd.finished_jobs WHERE task = 'transfer' GROUP BY status"
        ).fetchall()
        (strayed,) = connection.execute(STRAYED.encode()).fetchone() or (-1,)
    world.figures |= {f"transfers {status}": float(n) for status, n in rows} | {"strayed": float(strayed)}


SCENARIOS = [
    Scenario(
        name="37",
        title=f"{TRANSFERS} transactions that complete their jobs, with kills and cancels",
        body=_run,
        bounds={"strayed": 0},
        tidy=False,
    ),
]
