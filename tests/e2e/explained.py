"""A cluster whose jobs wait for every reason that there is, and its explanations without what differs from run to run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from typing import Any

from taskd.cli.main import run
from taskd.client import Client
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.valkey import RedisServer
from tests.e2e.fleet import Fleet, Process
from tests.servers import wait_until

#: What is different each time, and what stands for it.
VARIES = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ?", "TIME"),
    (r"\b\d+(\.\d+)? (s|min|h|d)\b( \d+ (s|min|h)\b)?", "SPAN"),
    (r"ended at \S+ a second", "ended at RATE a second"),
    (r"\S+@[\w-]+(\.[\w-]+)*", "WHO"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
)


@dataclass
class Puzzle:
    """The cluster. `ids` are the jobs' names in the expected texts."""

    fleet: Fleet
    redis: RedisServer
    etcd: EtcdServer
    schedulers: dict[str, Process] = field(default_factory=dict)
    workers: dict[str, Process] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        """Two schedulers; w1 serves `work` and `still`, w2 `busy`; w3, of `slow`, never claims what it is given second.

        w4, of `idle`, waits for nobody when it stops; nothing ever ends on it, which it tells after half a minute.
        """
        fleet = self.fleet
        self.schedulers["s1"] = fleet.start_scheduler("s1")
        fleet.leader([self.schedulers["s1"]])
        self.schedulers["s2"] = fleet.start_scheduler("s2")
        self.workers["w1"] = fleet.start_worker(
            "w1", "--queues", "work,still", "--concurrency", "4", "--processes", "1"
        )
        two = ("--concurrency", "2", "--processes", "2")
        self.workers["w2"] = fleet.start_worker(
            "w2", "--queues", "busy", *two, TASKD_WORKER__STOP_GRACE="60", TASKD_WORKER__GRACE="60"
        )
        failpoint = {"TASKD_FAILPOINT": "claim.before:sleep=600@2"}
        self.workers["w3"] = fleet.start_worker(
            "w3", "--queues", "slow", "--concurrency", "3", "--processes", "1", **failpoint
        )
        one = ("--concurrency", "1", "--processes", "1")
        self.workers["w4"] = fleet.start_worker("w4", "--queues", "idle", *one, TASKD_WORKER__GRACE="1")

    @cached_property
    def client(self) -> Client:
        return self.fleet.client(*self.schedulers.values())

    def configure(self, *command: str) -> None:
        """Change the live configuration, and wait until every process has heard of it."""
        self.fleet.taskd(self.schedulers["s1"], *command)
        version = self.client.get("/config")["version"]
        heard = f"version={version} was="
        alive = [one for one in self.fleet.processes if one.popen.poll() is None]
        wait_until(lambda: all(heard in one.output for one in alive))

    @contextmanager
    def only(self, scheduler: str) -> Iterator[None]:
        """Ask this one, while the others cannot answer."""
        self.client = self.fleet.client(self.schedulers[scheduler])
        yield
        del self.client

    def submit(self, name: str, task: str, payload: Any = None, **fields: Any) -> int:
        """Submit a job and call it so."""
        job = {"task": task, "payload": {} if payload is None else payload, **fields}
        self.ids[name] = found = int(self.client.submit(job)["id"])
        return found

    def reason(self, name: str) -> str:
        return str(self.client.explain(self.ids[name])["reason"])

    def wait_for(self, name: str, *reasons: str, beside: str | None = None, timeout: float = 60.0) -> None:
        """Wait until that is why."""

        def why() -> bool:
            found = self.client.explain(self.ids[name])
            told = {one["reason"] for one in found.get("beside", [])}
            return found["reason"] in reasons and (beside is None or beside in told)

        wait_until(why, timeout)

    def told(self, name: str, scheduler: str = "s1") -> str:
        """What `taskd explain` prints, as it would be in any run."""
        with redirect_stdout(StringIO()) as shown:
            assert run(["explain", str(self.ids[name]), "--server", self.schedulers[scheduler].url]) == 0
        text = re.sub(r" *\n {9,}", " ", shown.getvalue())  # where a line is broken depends on the durations
        for pattern, stands in VARIES:
            text = re.sub(pattern, stands, text)
        for called, job_id in sorted(self.ids.items(), key=lambda item: -item[1]):
            text = re.sub(rf"\b(job|cancel|retry|status) {job_id}\b", rf"\1 #{called}", text)
        return "\n".join(line.rstrip() for line in text.strip().splitlines())
