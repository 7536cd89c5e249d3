"""Tasks whose own transactions complete their jobs, with kills and with cancels that race their end (scenario 37)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg

from taskd.client import Client, ClientError
from tests.chaos.run import Scenario
from tests.chaos.transfer_tasks import SCHEMA
from tests.chaos.world import World

TRANSFERS, SOME = 200, 20
LEFT = "SELECT count(*) FROM taskd.jobs WHERE task = 'transfer'"
#: Bookings of attempts that did not complete their job, and completed jobs that have not exactly one.
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
        for first in range(0, TRANSFERS, SOME):
            server = world.schedulers[0].url
            jobs = client.submit_batch([_transfer(number, server) for number in range(first, first + SOME)])
            for job in jobs[::4]:  # some before they begin, some in their middle, some at their end, some too late
                with suppress(ClientError):
                    client.cancel(job)
    with psycopg.connect(world.postgres.dsn, autocommit=True) as connection:
        world.until(lambda: connection.execute(LEFT).fetchone() == (0,), 90)
    assert worker.terminate(60) == 0


def _transfer(number: int, server: str) -> dict[str, Any]:
    payload = {
        "seconds": 0.02 * (number % SOME),
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
