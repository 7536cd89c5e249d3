"""The load: batches at a steady rate, from a separate thread."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskd.client import Client, ClientError

#: Seconds between two batches.
BEAT = 0.2
#: The most jobs in a batch, in which a delayed feeder catches up.
MOST = 2000
#: The most jobs that may wait while the maximum is measured.
CUSHION = 10_000
#: Seconds of full load before the maximum is measured, for connections and query plans.
RAMP = 5.0

PRIORITIES = (0, 0, 0, 0, 5, 30, 60, 90)


def jobs(count: int, chance: random.Random) -> list[Mapping[str, Any]]:
    """Return jobs that do nothing; a few are delayed, run in a thread, or fail once."""
    made: list[Mapping[str, Any]] = []
    for kind in chance.choices(("noop", "plain", "stumble", "delayed"), (960, 20, 2, 18), k=count):
        job: dict[str, Any] = {
            "task": "noop" if kind == "delayed" else kind,
            "payload": {},
            "priority": chance.choice(PRIORITIES),
        }
        made.append({**job, "delay": 2.0} if kind == "delayed" else job)
    return made


def maximum(
    urls: Sequence[str], finished: Callable[[], int], seconds: float, chance: random.Random
) -> tuple[float, int]:
    """Return the jobs/s that the cluster finishes while jobs always wait, and the number of submitted jobs."""
    clients = [Client(url) for url in urls]
    batch, submitted, before = jobs(1000, chance), 0, finished()
    start = time.monotonic()
    counted_from: tuple[float, int] | None = None
    while (now := time.monotonic()) < start + RAMP + seconds:
        ended = finished() - before
        if counted_from is None and now >= start + RAMP:
            counted_from = now, ended
        if submitted - ended > CUSHION:
            time.sleep(0.02)
            continue
        submitted += len(clients[submitted // len(batch) % len(clients)].submit_batch(batch))
    assert counted_from is not None
    since, base = counted_from
    rate = (finished() - before - base) / (time.monotonic() - since)
    for client in clients:
        client.close()
    return rate, submitted


class Feeder:
    """Submits `rate` jobs/s to the schedulers in turn, from `start` to `stop`. The figures may be read at any time."""

    def __init__(self, urls: Sequence[str], rate: float, chance: random.Random) -> None:
        self.rate = rate
        self.submitted = 0
        #: Errors of submits. A scheduler that always runs must answer each submit.
        self.failures: list[str] = []
        #: The most seconds that the load was behind its rate.
        self.behind = 0.0
        self._clients = [Client(url) for url in urls]
        self._chance = chance
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="feeder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop submitting; return when the last batch was answered."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(60)

    def _feed(self) -> None:
        began, turn, tried = time.monotonic(), 0, 0
        while not self._stop.wait(BEAT):
            due = int((time.monotonic() - began) * self.rate) - tried
            self.behind = max(self.behind, due / self.rate)
            count = min(due, MOST)
            tried += count
            turn += 1
            try:
                self.submitted += len(self._clients[turn % len(self._clients)].submit_batch(jobs(count, self._chance)))
            except ClientError as error:
                self.failures.append(str(error))
        for client in self._clients:
            client.close()
