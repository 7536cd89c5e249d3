"""A client that submits during faults and stores the accepted jobs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any

import httpx
import psycopg

from tests.e2e.fleet import Fleet, Process


class Load:
    """Submits jobs one by one to the queues in turn, each with a dedupe_key, and repeats each until it is accepted."""

    def __init__(
        self,
        fleet: Fleet,
        schedulers: list[Process],
        task: str = "nap",
        payload: Any = None,
        queues: Sequence[str] = ("default",),
    ) -> None:
        self._fleet = fleet
        self._queues = queues
        self._urls = [s.url for s in schedulers]
        self._body = {"task": task, "payload": payload if payload is not None else {"seconds": 0.02}}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.accepted: dict[str, int] = {}
        self.refusals: Counter[int] = Counter()

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        with httpx.Client(timeout=5) as client:
            for n in count():
                key = f"load-{n}"
                queue = self._queues[n % len(self._queues)]
                while key not in self.accepted and not self._stop.is_set():
                    self._submit(client, key, queue)
                if self._stop.wait(0.005):
                    return

    def _submit(self, client: httpx.Client, key: str, queue: str) -> None:
        for url in self._urls:
            try:
                response = client.post(f"{url}/jobs", json=self._body | {"queue": queue, "dedupe_key": key})
            except httpx.HTTPError:
                continue
            if response.status_code in (200, 201):
                self.accepted[key] = response.json()["id"]
                return
            self.refusals[response.status_code] += 1

    def check(self, timeout: float = 60.0) -> None:
        """Check that every accepted job completed, one for each key, and that no two attempts of a job overlapped."""
        ids = list(self.accepted.values())
        assert len(set(ids)) == len(ids)
        self._fleet.wait_completed(ids, timeout)
        with psycopg.connect(self._fleet.dsn) as connection:
            rows = connection.execute(
                "SELECT dedupe_key, count(*), min(id) FROM taskd.finished_jobs WHERE dedupe_key IS NOT NULL GROUP BY 1"
            ).fetchall()
        assert all(jobs == 1 and self.accepted.get(key, job_id) == job_id for key, jobs, job_id in rows)
        check_trace(self._fleet)


def check_trace(fleet: Fleet) -> None:
    """Check that each job's completed attempt ran to its end, and that its attempts did not overlap."""
    with psycopg.connect(fleet.dsn) as connection:
        rows = connection.execute("SELECT id, attempt FROM taskd.finished_jobs WHERE status = 'completed'").fetchall()
    final = {str(job_id): str(attempt) for job_id, attempt in rows}
    runs: dict[str, list[tuple[float, str, str]]] = {}
    for job, attempt, what, at in fleet.trace:
        runs.setdefault(job, []).append((float(at), attempt, what))
    for job, attempt in final.items():
        events = sorted(runs[job])
        assert (attempt, "end") in {(a, what) for _, a, what in events}, (job, events)
        order = [int(a) for _, a, _ in events]
        assert order == sorted(order), (job, events)
