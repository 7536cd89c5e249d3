"""A cluster with a job for every reason of waiting, and its explanations without the parts that vary from run to run."""

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

#: Patterns of the parts that vary, and their replacements.
VARIES = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ?", "TIME"),
    (r"\b\d+(\.\d+)? (s|min|h|d)\b( \d+ (s|min|h)\b)?", "SPAN"),
    (r"ended at \S+ a second", "ended at RATE a second"),
    (r"\S+@[\w-]+(\.[\w-]+)*", "WHO"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
)


@dataclass
class ExplainedCluster:
    """Cluster with named jobs. The expected texts have the names of `ids` instead of the jobs' ids."""

    fleet: Fleet
    redis: RedisServer
    etcd: EtcdServer
    schedulers: dict[str, Process] = field(default_factory=dict)
    workers: dict[str, Process] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        """Start two schedulers and four workers.

        w1 serves `work` and `still`, w2 `busy`, w3 `slow` and w4 `idle`. w3 never claims its second job. w4 does not wait
        for attempts when it stops. No attempt ever ends on w4, which it reports after half a minute.
        """
        fleet = self.fleet
        self.schedulers["s1"] = fleet.start_scheduler("s1")
        fleet.leader([self.schedulers["s1"]])
        self.schedulers["s2"] = fleet.start_scheduler("s2")
        self.workers["w1"] = fleet.start_worker(
            "w1", "--queues", "work,still", "--concurrency", "4", "--processes", "1"
        )
        double = ("--concurrency", "2", "--processes", "2")
        self.workers["w2"] = fleet.start_worker(
            "w2", "--queues", "busy", *double, TASKD_WORKER__STOP_GRACE="60", TASKD_WORKER__GRACE="60"
        )
        failpoint = {"TASKD_FAILPOINT": "claim.before:sleep=600@2"}
        self.workers["w3"] = fleet.start_worker(
            "w3", "--queues", "slow", "--concurrency", "3", "--processes", "1", **failpoint
        )
        single = ("--concurrency", "1", "--processes", "1")
        self.workers["w4"] = fleet.start_worker("w4", "--queues", "idle", *single, TASKD_WORKER__GRACE="1")

    @cached_property
    def client(self) -> Client:
        return self.fleet.client(*self.schedulers.values())

    def configure(self, *command: str) -> None:
        """Change the live configuration, and wait until every process has applied it."""
        self.fleet.taskd(self.schedulers["s1"], *command)
        version = self.client.get("/config")["version"]
        text = f"version={version} was="
        alive = [process for process in self.fleet.processes if process.popen.poll() is None]
        wait_until(lambda: all(text in process.output for process in alive))

    @contextmanager
    def only(self, scheduler: str) -> Iterator[None]:
        """Send requests to this scheduler only, while the others cannot answer."""
        self.client = self.fleet.client(self.schedulers[scheduler])
        yield
        del self.client

    def submit(self, name: str, task: str, payload: Any = None, **fields: Any) -> int:
        """Submit a job and store its id under `name`."""
        job = {"task": task, "payload": {} if payload is None else payload, **fields}
        self.ids[name] = job_id = int(self.client.submit(job)["id"])
        return job_id

    def reason(self, name: str) -> str:
        return str(self.client.explain(self.ids[name])["reason"])

    def wait_for(self, name: str, *reasons: str, beside: str | None = None, timeout: float = 60.0) -> None:
        """Wait until one of the reasons explains the job, and `beside`, if given, is a further one."""

        def why() -> bool:
            explanation = self.client.explain(self.ids[name])
            beside_reasons = {entry["reason"] for entry in explanation.get("beside", [])}
            return explanation["reason"] in reasons and (beside is None or beside in beside_reasons)

        wait_until(why, timeout)

    def explanation_of(self, name: str, scheduler: str = "s1") -> str:
        """Return the output of `taskd explain`, without the parts that vary from run to run."""
        with redirect_stdout(StringIO()) as printed:
            assert run(["explain", str(self.ids[name]), "--server", self.schedulers[scheduler].url]) == 0
        text = re.sub(r" *\n {9,}", " ", printed.getvalue())  # the line breaks depend on the durations
        for pattern, replacement in VARIES:
            text = re.sub(pattern, replacement, text)
        for name, job_id in sorted(self.ids.items(), key=lambda item: -item[1]):
            text = re.sub(rf"\b(job|cancel|retry|status) {job_id}\b", rf"\1 #{name}", text)
        return "\n".join(line.rstrip() for line in text.strip().splitlines())
