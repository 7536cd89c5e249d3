"""Tasks whose own transactions complete their jobs, with kills and with cancels that race their end (scenario 34)."""

from __future__ import annotations

import psycopg

from tests.chaos.run import Scenario
from tests.chaos.transfer_tasks import SCHEMA
from tests.chaos.world import World

TRANSFERS = 300
FINAL = ("completed", "failed", "cancelled")
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
    jobs = []
    for number in range(TRANSFERS):
        payload = {"seconds": 0.02, "crash": number % 50 == 7}
        jobs.append(world.submit("transfer", payload, queue="transfers", retry_backoff={"initial": 0.1}))
        if number % 2:  # some in their middle, some at their end, some too late
            world.ask("POST", f"/jobs/{jobs[-1 - number % 4]}/cancel")
    world.until(lambda: all(world.job(job)["status"] in FINAL for job in jobs), 90)
    assert worker.terminate(60) == 0


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
        name="34",
        title=f"{TRANSFERS} transactions that complete their jobs, with kills and cancels",
        body=_run,
        bounds={"strayed": 0},
        tidy=False,
    ),
]
