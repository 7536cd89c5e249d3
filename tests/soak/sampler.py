"""Looks at everything every few seconds, for as long as the soak lasts."""

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
#: Who a figure is of: a process (its name and id), or the stores, or a server (id 0: its processes come and go).
Subject = tuple[str, int]


class Sampler:
    """Series of (seconds, value) by subject and figure, also written to a file, one line a look. `start`, `stop`."""

    def __init__(self, world: World, file: Path) -> None:
        self.series: dict[Subject, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
        #: Looks that a server did not answer.
        self.failures: list[str] = []
        self._world = world
        self._file = file
        self._stores = Stores(world)
        self._http = httpx.Client(timeout=3)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
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
                for subject, figures in self._look().items():
                    for name, value in figures.items():
                        self.series[subject][name].append((at, value))
                    file.write(json.dumps({"at": round(at, 1), "of": subject[0], "pid": subject[1], **figures}) + "\n")
                file.flush()

    def _look(self) -> dict[Subject, dict[str, float]]:
        found: dict[Subject, dict[str, float]] = {}
        for name, pid in processes.roll(self._world):
            if (use := processes.usage(pid)) is not None:
                found[name, pid] = {**vars(use), **self._tasks(name)}
        for name, pids in processes.servers(self._world).items():
            found[name, 0] = {**vars(processes.together(pids)), "processes": float(len(pids))}
        try:
            found["stores", 0] = self._stores.figures()
        except (psycopg.Error, redis.RedisError, httpx.HTTPError, KeyError, ValueError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
        return found

    def _tasks(self, name: str) -> dict[str, float]:
        """The asyncio tasks of a scheduler or a worker; a process that begins or ends may not answer."""
        member = self._world.members.get(name)
        if member is None:
            return {}
        try:
            answer = self._http.get(f"{member.url}/metrics").json()
        except (httpx.HTTPError, ValueError):
            return {}
        return {"tasks": float(answer["event_loop_tasks"])} if "event_loop_tasks" in answer else {}
