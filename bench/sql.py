"""The cost of submitting in SQL: `POSTGRES_DSN=… python -m bench.sql`, on a separate database after `taskd migrate`.

1. Jobs a second by `taskd.submit_many`, a thousand at a time, beside the schedulers' own statement, in the best round.
2. Commits a second of single submits by eight clients: without NOTIFY, as it is, and with a NOTIFY in each.
"""

from __future__ import annotations

import json
import os
import threading
import time

import psycopg

from taskd.store.lane import ONE_PLANNING
from taskd.store.pinned import flags
from taskd.store.statements import statement

JOBS, ROUNDS, CLIENTS, SECONDS = 1000, 30, 8, 5.0
DEFAULTS = {
    "queue": "default",
    "priority": 0,
    "max_retries": 3,
    "retry_backoff": {"initial": 1.0, "factor": 2.0, "max": 3600.0, "jitter": True},
    "delay": 0.0,
}
LEAN = {"task": "nap", "payload": {"seconds": 0}}
FULL = {**LEAN, "queue": "images", "priority": 5, "max_retries": 2, "metadata": {"who": "bench"}, "timeout": 30}
ONE = "SELECT * FROM taskd.submit('nap', '{}')"
WAYS = {
    "without NOTIFY": ("off", ONE),
    "as it is": ("on", ONE),
    "a NOTIFY in each": ("off", f"{ONE}, pg_notify('taskd_jobs', '')"),
}


def rate(connection: psycopg.Connection[tuple[object, ...]], query: str, job: dict[str, object]) -> float:
    """Return jobs a second in the best round, in which other programs on the machine count least."""
    document, times = json.dumps([job] * JOBS), []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        connection.execute(query.encode(), {"jobs": document}, prepare=True).fetchall()
        times.append(time.perf_counter() - began)
    return JOBS / min(times)


def commits(dsn: str, notify: str, query: str) -> float:
    """Return commits a second by all clients."""
    end, done = time.monotonic() + SECONDS, [0] * CLIENTS

    def submit(number: int) -> None:
        with psycopg.connect(dsn, options=f"-c taskd.notify={notify}", autocommit=True) as connection:
            while time.monotonic() < end:
                connection.execute(query.encode())
                done[number] += 1

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / SECONDS


def main() -> None:
    """Measure and print."""
    dsn = os.environ["POSTGRES_DSN"]
    with psycopg.connect(dsn, autocommit=True, options=flags(ONE_PLANNING)) as connection:
        many = "SELECT * FROM taskd.submit_many(%(jobs)s::json)"
        print(
            f"submit.sql, as for /jobs/batch: {rate(connection, statement('submit'), {**DEFAULTS, **LEAN}):,.0f} jobs/s"
        )
        print(f"taskd.submit_many, two fields: {rate(connection, many, dict(LEAN)):,.0f} jobs/s")
        print(f"taskd.submit_many, seven fields: {rate(connection, many, dict(FULL)):,.0f} jobs/s")
    for name, (notify, query) in WAYS.items():
        print(f"single submits by {CLIENTS} clients, {name}: {commits(dsn, notify, query):,.0f} commits/s")


if __name__ == "__main__":
    main()
