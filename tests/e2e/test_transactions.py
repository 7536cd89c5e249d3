"""Test tasks whose own transactions complete their jobs: the sums are exact after each fault between two statements."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest

from taskd.client import Client
from tests.e2e.fleet import Fleet, Process, batch
from tests.e2e.ledger import SCHEMA, noted
from tests.servers import wait_until

APP = "tests.e2e.ledger"
SOON = {"initial": 0.02, "jitter": False}
OPTIONS = ("--concurrency", "1", "--processes", "1")


class LedgerCluster:
    """Scheduler, workers that are restarted when they are killed, and the ledger."""

    def __init__(self, fleet: Fleet, workers: int = 1) -> None:
        #: One connection for all queries, since new ones would take processor time from the workers.
        self.connection = psycopg.connect(fleet.dsn, autocommit=True)
        self.connection.execute(SCHEMA.encode())
        self.fleet = fleet
        self.boundaries, self.strikes = fleet.folder / "boundaries", fleet.folder / "strikes"
        fleet.more |= {"BOUNDARIES": str(self.boundaries), "STRIKES": str(self.strikes), "TASKD_WORKER__GRACE": "3"}
        self.scheduler = fleet.start_scheduler("s")
        self.client: Client = fleet.client(self.scheduler)
        self.workers = [self.spawn(number) for number in range(workers)]

    def spawn(self, number: int) -> Process:
        return self.fleet.spawn_worker(f"w{number}", *OPTIONS, app=APP)

    def revive(self) -> None:
        """Restart killed workers, without waiting: meanwhile the others work, and are killed in turn."""
        for number, worker in enumerate(self.workers):
            status = worker.popen.poll()
            assert status in (None, -signal.SIGKILL), worker.output[-3000:]
            if status is not None:
                self.workers[number] = self.spawn(number)

    def close(self) -> None:
        self.connection.close()

    def query(self, query: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(query.encode()).fetchall()

    def run(self, task: str, payloads: Sequence[dict[str, Any]]) -> list[int]:
        """Run jobs, one at a time on each worker, so that each fault meets its own job."""
        ids = batch(self.client, task, payloads, retry_backoff=SOON)

        def done() -> bool:
            self.revive()
            statuses = [
                status for job, status in self.query("SELECT id, status FROM taskd.finished_jobs") if job in ids
            ]
            assert "failed" not in statuses, "".join(worker.output[-3000:] for worker in self.workers)
            return statuses.count("completed") == len(ids)

        wait_until(done, 60 + 60 * len(ids))  # a busy machine may take long to start a process
        return ids

    def count(self, task: str) -> tuple[int, int]:
        """Run a transfer without a fault; return its job and the number of its boundaries."""
        (job,) = self.run(task, [{"amount": 1}])
        wait_until(lambda: noted(self.boundaries))
        ((noted_job, _, boundaries),) = noted(self.boundaries)
        assert noted_job == job
        return job, boundaries

    def struck(self) -> list[tuple[int, int, bool]]:
        """Return each fault's job, its boundary, and True if the attempt that it struck is the one that counts."""
        booked = dict(self.query("SELECT job, attempt FROM ledger"))
        return sorted((job, at, booked[job] == attempt) for job, attempt, at in noted(self.strikes))

    def check(self, ids: Sequence[int]) -> None:
        """Check that every transfer happened once, with a receipt, and that the sums are exact."""
        amounts = self.query("SELECT count(*), count(DISTINCT job), sum(amount) FROM ledger")
        n, jobs, moved = amounts[0]
        assert n == jobs == len(ids)
        assert self.query("SELECT name, balance FROM accounts ORDER BY name") == [
            ("a", 1000 - moved),
            ("b", 1000 + moved),
        ]
        rows = self.query(
            "SELECT f.id, f.status, f.attempt, l.attempt, f.result::text::int, l.amount FROM taskd.finished_jobs f"
            " JOIN ledger l ON l.job = f.id ORDER BY f.id"
        )
        assert [row[0] for row in rows] == sorted(ids)
        assert all(row[1] == "completed" and row[2] == row[3] and row[4] == row[5] for row in rows)
        receipts = (
            "SELECT parent_id FROM (SELECT id, task, parent_id FROM taskd.jobs UNION ALL"
            " SELECT id, task, parent_id FROM taskd.finished_jobs) j WHERE task = 'receipt' ORDER BY 1"
        )
        assert [parent for (parent,) in self.query(receipts)] == sorted(ids)
        wait_until(lambda: not self.query("SELECT 1 FROM taskd.jobs"), 60)
        counted = "SELECT sum(n)::int FROM taskd.finished_counts WHERE status = 'completed'"
        assert self.query(counted) == [(2 * len(ids),)]


@pytest.fixture
def make_cluster(fleet: Fleet) -> Iterator[Callable[..., LedgerCluster]]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(closing(LedgerCluster(fleet, **options)))


@pytest.mark.parametrize(("fault", "workers"), [("executor", 3), ("worker", 3), ("backend", 1), ("cut", 1)])
@pytest.mark.parametrize("task", ["transfer", "transfer_sync"])
def test_whatever_dies_between_two_statements_each_transfer_happens_once(
    make_cluster: Callable[..., LedgerCluster], task: str, fault: str, workers: int
) -> None:
    """Test it with several workers, since a killed one takes seconds to restart."""
    cluster = make_cluster(workers=workers)
    unharmed, last = cluster.count(task)
    assert last >= 11  # five messages, twice each, and the end
    boundaries = range(1, last + 1)
    ids = cluster.run(task, [{"amount": 2, "fault": fault, "at": at} for at in boundaries])
    cluster.check([unharmed, *ids])
    assert cluster.struck() == [(job, at, at >= last - 1) for job, at in zip(ids, boundaries, strict=True)]


def test_what_comes_after_the_commit_changes_nothing(make_cluster: Callable[..., LedgerCluster]) -> None:
    cluster = make_cluster()
    ids = cluster.run("ends_badly", [{"how": how} for how in ("return", "raise", "again")])
    hanging = cluster.client.submit({"task": "ends_badly", "payload": {"how": "hang"}, "timeout": 2})["id"]
    after = cluster.run("ends_badly", [{"how": "return"}])  # the only slot is free again
    for job_id in [*ids, hanging, *after]:
        job = cluster.client.job(job_id)
        assert (job["status"], job["result"], len(job["attempts"])) == ("completed", 7, 1)
    output = cluster.workers[0].output
    assert output.count("had completed the job") == 2  # raise and again; being stopped is no such end
    assert "fenced" not in output
    assert "claim is gone" not in output


def test_a_plain_task_is_cancelled_in_a_long_statement_and_its_executor_lives_on(
    make_cluster: Callable[..., LedgerCluster],
) -> None:
    cluster = make_cluster()
    before = cluster.run("process", [{}])
    sleeping = cluster.client.submit({"task": "sleeps", "payload": {}})["id"]
    asleep = "SELECT count(*)::int FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    wait_until(lambda: cluster.query(asleep) == [(1,)], 60)
    cluster.client.cancel(sleeping)
    after = cluster.run("process", [{}])
    assert cluster.client.job(before[0])["result"] == cluster.client.job(after[0])["result"]
    assert cluster.query(asleep) == [(0,)]
    assert cluster.query("SELECT count(*)::int FROM ledger") == [(0,)]


def test_a_block_that_does_not_commit_leaves_nothing_and_may_be_tried_again(
    make_cluster: Callable[..., LedgerCluster],
) -> None:
    cluster = make_cluster()
    expected = {
        "raise": "KeyError: 'no'",
        "statement": "DivisionByZero: division by zero",
        "swallow": "RuntimeError: a statement in ctx.transaction() failed",
        "deferred": "UniqueViolation: duplicate key",
        "commit": "RuntimeError: ctx.transaction() commits at the end",
        "raw": "RuntimeError: the transaction was ended inside",
        "nested": "RuntimeError: ctx.transaction() is open already",
        "result": "Unstorable: the result is not JSON",
    }
    ids = cluster.run("rolls_back", [{"how": how} for how in expected])
    for job_id, text in zip(ids, expected.values(), strict=True):
        job = cluster.client.job(job_id)
        assert job["result"].startswith(text)
        assert len(job["attempts"]) == 1
    assert cluster.query("SELECT count(*), sum(amount)::int FROM ledger") == [(len(ids), 100 * len(ids))]


def test_the_leader_hears_of_a_job_from_sql_when_it_commits(fleet: Fleet) -> None:
    """Test it with a leader that polls only every ten minutes."""
    fleet.more |= {"TASKD_SCHEDULER__POLL": "600"}
    fleet.start_scheduler("s")
    fleet.start_worker("w", app=APP)
    with psycopg.connect(fleet.dsn, autocommit=True) as connection:
        listening = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'taskd:submitted:s'"
        wait_until(lambda: connection.execute(listening).fetchone() == (1,))
        submit = "SELECT id FROM taskd.submit('receipt', '{\"of\": 1}')"
        ids = [row[0] for row in connection.execute(submit)]
        fleet.wait_completed(ids)
        with connection.transaction():
            ids = [row[0] for row in connection.execute(submit)]
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'submitted'"
        )
        ids += [row[0] for row in connection.execute(submit)]  # while the leader does not listen
        fleet.wait_completed(ids)
