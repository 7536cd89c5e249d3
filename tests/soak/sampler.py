"""Samples of all figures every few seconds during the soak."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from pathlib import Path

import httpx
import psycopg
import redis

from tests.chaos.world import World
from tests.soak import processes
from tests.soak.stores import Stores

EVERY = 5.0
#: Subject of a figure: a process (its name and pid), or the stores or a server (pid 0, as its processes change).
Subject = tuple[str, int]


class Sampler:
    """Series of (seconds, value) by subject and figure, which are also written to a file, one line for each sample."""

    def __init__(self, world: World, file: Path) -> None:
        self.series: dict[Subject, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
        #: Errors of samples that a server did not answer.
        self.failures: list[str] = []
        self._world = world
        self._file = file
        self._stores = Stores(world)
        self._http = httpx.Client(timeout=3)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)
        self._stores.close()
        self._http.close()

    def _run(self) -> None:
        began = time.monotonic()
        with self._file.open("w") as file:
            while not self._stop.wait(EVERY):
                at = time.monotonic() - began
                for subject, figures in self._sample().items():
                    for name, value in figures.items():
                        self.series[subject][name].append((at, value))
                    file.write(json.dumps({"at": round(at, 1), "of": subject[0], "pid": subject[1], **figures}) + "\n")
                file.flush()

    def _sample(self) -> dict[Subject, dict[str, float]]:
        sample: dict[Subject, dict[str, float]] = {}
        for name, pid in processes.taskd_processes(self._world):
            if (use := processes.usage(pid)) is not None:
                sample[name, pid] = {**vars(use), **self._tasks(name)}
        for name, pids in processes.servers(self._world).items():
            sample[name, 0] = {**vars(processes.total(pids)), "processes": float(len(pids))}
        try:
            sample["stores", 0] = self._stores.figures()
        except (psycopg.Error, redis.RedisError, httpx.HTTPError, KeyError, ValueError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
        return sample

    def _tasks(self, name: str) -> dict[str, float]:
        """Return the number of asyncio tasks of a scheduler or worker; a process that starts or ends may not answer."""
        member = self._world.members.get(name)
        if member is None:
            return {}
        try:
            document = self._http.get(f"{member.url}/metrics").json()
        except (httpx.HTTPError, ValueError):
            return {}
        return {"tasks": float(document["event_loop_tasks"])} if "event_loop_tasks" in document else {}
