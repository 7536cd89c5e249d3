"""Test `taskd torture` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from taskd.dev.process import descendants, identity
from taskd.dev.stop_signals import ECHO
from taskd.torture.checker.__main__ import main as check
from taskd.torture.history import History
from tests.servers import SharedServers, wait_until

SEED = 7


class Torture:
    """Process of `taskd torture` with its output."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.history = folder / "history"
        self.output, self.errors = folder / "output.txt", folder / "errors.txt"
        arguments = ["torture", "--seed", str(SEED), "--history", str(self.history), *options]
        with self.output.open("wb") as output, self.errors.open("wb") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "taskd", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=folder,
                env=os.environ | environment,
            )

    @property
    def printed(self) -> str:
        """Content of its stdout and stderr."""
        return self.output.read_text("utf-8") + self.errors.read_text("utf-8")

    def await_faults(self, count: int = 1) -> None:
        """Return when `count` faults were injected."""
        faults = self.history / "faults.ndjson"

        def enough() -> bool:
            assert self.popen.poll() is None, self.printed
            return faults.exists() and faults.read_bytes().count(b"\n") >= count

        wait_until(enough, 120)


@pytest.fixture
def torture(private_folder: Path) -> Iterator[Callable[..., Torture]]:
    """Return a function that starts runs, and kill at the end those that still run."""
    started: list[Torture] = []

    def start(*options: str, **environment: str) -> Torture:
        started.append(Torture(private_folder, *options, **environment))
        return started[-1]

    yield start
    for run in started:
        if run.popen.poll() is None:
            run.popen.kill()
            run.popen.wait()


def test_a_short_run_ends_clean_and_its_verdict_agrees_with_its_history(torture: Callable[..., Torture]) -> None:
    run = torture("--minutes", "0.25", "--json", TASKD_SCHEDULER__SHARDS="2")
    assert run.popen.wait(timeout=300) == 0, run.printed
    verdict = json.loads(run.output.read_text("utf-8"))
    history = History.load(run.history)

    accepted = {step.id for step in history.clients if step.op == "ok"}
    assert verdict["accepted"] == len(accepted) > 50
    fired = {job.id for job in history.jobs if job.schedule == "torture-pulse"}
    assert len(fired) > 5
    assert accepted == {job.id for job in history.jobs} - fired
    assert verdict["ended"] == Counter(job.status for job in history.jobs if job.id in accepted)
    assert set(verdict["ended"]) <= {"completed", "failed", "cancelled"}
    injected = Counter(
        fault.what for fault in history.faults if fault.what.startswith(("SIGK", "SIGT", "SIGS", "FLUSH"))
    )
    assert sum(verdict["faults"].values()) == sum(injected.values()) >= 2
    assert (verdict["seed"], history.meta.seed) == (SEED, SEED)
    assert (verdict["clean"], verdict["lost"], verdict["doubled"], verdict["unfinished"]) == (True, 0, 0, 0)
    assert {p["name"]: p["broken"] for p in verdict["promises"]}.keys() >= {"I1", "I6"}
    looked = {promise["name"]: promise["looked"] for promise in verdict["promises"]}
    assert looked["I1"] >= len(accepted)
    assert looked["I16"] > len(fired)
    assert looked["I18"] > 0
    assert {term.shard for term in history.terms} == {0, 1}
    assert len({job.queue for job in history.jobs}) == 3
    assert "leaders scheduler-" in run.printed
    assert history.events[0].committed is not None
    assert check([str(run.history)]) == 0
    assert "Traceback" not in run.printed


def test_ctrl_c_ends_the_faults_and_still_judges(torture: Callable[..., Torture]) -> None:
    run = torture("--minutes", "30")
    run.await_faults()
    children = {pid: identity(pid) for pid in descendants(run.popen.pid)}
    run.popen.send_signal(signal.SIGINT)
    assert run.popen.wait(timeout=300) == 0, run.printed
    assert "nothing lost, nothing doubled" in run.printed
    assert all(known is None or identity(pid) != known for pid, known in children.items())


def test_a_second_ctrl_c_leaves_no_process(torture: Callable[..., Torture]) -> None:
    run = torture("--minutes", "30", "--rate", "40")
    run.await_faults()
    children = {pid: identity(pid) for pid in descendants(run.popen.pid)}
    assert len(children) >= 8
    run.popen.send_signal(signal.SIGINT)
    heard = time.monotonic()
    # A signal within the echo of the first is taken for the same Ctrl-C.
    wait_until(lambda: "no more faults" in run.printed and time.monotonic() > heard + 2 * ECHO, 60)
    run.popen.send_signal(signal.SIGINT)
    assert run.popen.wait(timeout=120) == 130, run.printed
    wait_until(lambda: all(known is None or identity(pid) != known for pid, known in children.items()), 30)
    assert "nothing lost" not in run.printed
    assert "Traceback" not in run.printed


def test_given_servers_see_queues_of_ours_and_nothing_of_theirs_is_judged(
    torture: Callable[..., Torture],
    servers: SharedServers,
    postgres_dsn: str,
    stream_name: str,
    etcd_prefix: str,
) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute(
            "INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, created_at, schedule_at, payload)"
            " VALUES (1000000000, 'theirs', 'default', 0, 0, '{}', now(), now() + interval '1 hour', 'null')"
        )
    given = {
        "POSTGRES_DSN": postgres_dsn,
        "REDIS_URL": servers.redis.url,
        "REDIS_STREAM_NAME": stream_name,
        "ETCD_ENDPOINTS": servers.etcd.endpoint,
        "TASKD_ETCD__PREFIX": etcd_prefix,
    }
    run = torture("--given", "--yes", "--minutes", "0.1", **given)
    assert run.popen.wait(timeout=300) == 0, run.printed
    assert "WARNING" in run.printed
    history = History.load(run.history)
    queues = {job.queue for job in history.jobs}
    (name,) = {queue.rpartition("-")[0] for queue in queues}
    assert name.startswith("torture-")
    assert len(queues) == 3
    assert {fault.target for fault in history.faults} <= {
        f"{name}-{member}" for member in ("scheduler-1", "scheduler-2", "worker-1", "worker-2", "worker-3")
    }
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("SELECT task, status FROM taskd.jobs").fetchall() == [("theirs", "pending")]
