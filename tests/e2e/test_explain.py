"""Test `taskd explain` on a real cluster: each reason is provoked once, and its whole text compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.valkey import RedisServer
from tests import web
from tests.e2e.conftest import BUGS
from tests.e2e.explained import ExplainedCluster
from tests.e2e.fleet import Fleet
from tests.e2e.tasks import app
from tests.servers import SharedServers, wait_until

HOUR = {"initial": 3600, "jitter": False}


@pytest.fixture(scope="module")
def explained(
    servers: SharedServers, server_binaries: Binaries, session_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExplainedCluster]:
    """Return one cluster for all reasons, with a separate Redis and etcd."""
    folder = session_folder / f"explain-{uuid4().hex[:8]}"
    folder.mkdir(mode=0o711)
    redis = RedisServer(server_binaries.redis, folder / "redis", log=folder / "redis.log", durable=False)
    etcd = EtcdServer(server_binaries.etcd, folder / "etcd", log=folder / "etcd.log")
    redis.start()
    etcd.start()
    dsn = servers.clone_database()
    addresses = {"dsn": dsn, "redis_url": redis.url, "stream": "jobs", "etcd_endpoint": etcd.endpoint}
    fleet = Fleet(tmp_path_factory.mktemp("explain"), addresses | {"etcd_prefix": f"/test-{uuid4().hex}"})
    # A frozen leader counts as silent after four seconds, as missing after eight, and is replaced after fourteen.
    fleet.more = {
        "TASKD_SCHEDULER__LEADER_STALE": "8",
        "TASKD_SCHEDULER__LEADER_RENEW": "1",
        "TASKD_ETCD__TTL": "14",
    }
    explained = ExplainedCluster(fleet, redis, etcd)
    try:
        explained.start()
        yield explained
    finally:
        fleet.stop()
        redis.kill()
        etcd.kill()
        servers.drop_database(dsn)
    for process in fleet.processes:
        assert not any(sign in process.output for sign in BUGS), process.output[-3000:]


def expect(actual: str, expected: str) -> None:
    assert actual == dedent(expected).strip()


def test_a_job_that_is_scheduled(explained: ExplainedCluster) -> None:
    explained.submit("late", "rest", {"seconds": 0}, queue="work", delay=3600)
    expect(
        explained.explanation_of("late"),
        """
        job #late pending (scheduled)
          It is scheduled for TIME, in SPAN.
          estimate  at least SPAN: until it is due; how soon it starts then depends on free slots
          to do     Nothing has to be done. To run it sooner: taskd cancel #late, then taskd retry #late, which makes a new job that is due at once.
          seen      by s1 at TIME
        """,  # noqa: E501
    )
    shown = explained.fleet.taskd(explained.schedulers["s1"], "status", str(explained.ids["late"])).stdout
    assert shown.splitlines()[-1].startswith("It is scheduled for ")


def test_a_job_that_waits_for_its_retry(explained: ExplainedCluster) -> None:
    explained.submit("flaky", "flaky", {"failures": 1}, queue="work", retry_backoff=HOUR)
    explained.wait_for("flaky", "retry")
    expect(
        explained.explanation_of("flaky"),
        """
        job #flaky pending (retry)
          It is tried again at TIME, in SPAN; attempt 1 failed: RuntimeError: attempt 1 fails
          estimate  at least SPAN: until it is due; how soon it starts then depends on free slots
          to do     taskd status #flaky shows the whole error; it may fail twice more. To try at once: taskd cancel #flaky, then taskd retry #flaky.
          seen      by s1 at TIME
        """,  # noqa: E501
    )


def test_a_job_that_snoozes(explained: ExplainedCluster) -> None:
    explained.submit("dozing", "doze", {"seconds": 3600}, queue="work")
    explained.wait_for("dozing", "snoozed")
    expect(
        explained.explanation_of("dozing"),
        """
        job #dozing pending (snoozed)
          Its task put it back until TIME, for another SPAN; attempt 1 said: the shop is closed
          estimate  at least SPAN: until it is due; how soon it starts then depends on free slots
          to do     Nothing has to be done: this costs no retry.
          seen      by s1 at TIME
        """,
    )


def test_jobs_of_a_paused_queue(explained: ExplainedCluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    soon = {"initial": 0.01, "jitter": False}
    explained.submit("broken", "break_off", {"file": str(go)}, queue="still", retry_backoff=soon)
    explained.wait_for("broken", "running")
    explained.configure("config", "set", "queue.still.paused", "true")
    explained.submit("paused", "rest", {"seconds": 0}, queue="still", priority=9)
    text = explained.explanation_of("paused")
    go.touch()
    explained.wait_for("broken", "queue_paused", beside="failed_before")
    expect(
        text + "\n" + explained.explanation_of("broken"),
        """
        job #paused pending (queue_paused)
          Queue still has been paused since TIME by WHO.
          to do  Let it go on: taskd config unset queue.still.paused
          seen   by s1 at TIME
        job #broken pending (queue_paused)
          Queue still has been paused since TIME by WHO.
          to do  Let it go on: taskd config unset queue.still.paused
          also   1 job is ahead of it in queue still.
          also   Attempt 1 failed: RuntimeError: this is far enough
          seen   by s1 at TIME
        """,
    )


def test_a_job_whose_queue_has_no_worker(explained: ExplainedCluster) -> None:
    explained.submit("lonely", "rest", {"seconds": 0}, queue="lonely")
    expect(
        explained.explanation_of("lonely"),
        """
        job #lonely pending (no_worker)
          No live worker serves queue lonely; none has within the last hour.
          to do  Start one: taskd worker --queues lonely --app MODULE
          seen   by s1 at TIME
        """,
    )


def test_a_job_whose_task_no_worker_knows(explained: ExplainedCluster) -> None:
    explained.submit("alien", "alien", queue="work", retry_backoff=HOUR)
    wait_until(lambda: explained.client.job(explained.ids["alien"])["attempts"][-1:])
    explained.wait_for("alien", "task_unknown", beside="retry")
    expect(
        explained.explanation_of("alien").replace(", ".join(sorted(app.names)), "TASKS"),
        """
        job #alien pending (task_unknown)
          No worker that serves queue work knows the task alien.
          to do  Start a worker whose app has it; until then each attempt fails. If the name is wrong, cancel the job and submit it rightly.
          also   It is tried again at TIME, in SPAN; attempt 1 failed: there is no task 'alien' in the app tests.e2e.tasks; it has: TASKS
          seen   by s1 at TIME
        """,  # noqa: E501
    )


def test_a_job_that_runs(explained: ExplainedCluster) -> None:
    explained.submit("halfway", "half_way", {"seconds": 600}, queue="work", timeout=900)
    explained.wait_for("halfway", "running", beside="progress")
    expect(
        explained.explanation_of("halfway"),
        """
        job #halfway running (running)
          It has been running on w1 for SPAN, as attempt 1.
          to do  Nothing has to be done. taskd cancel #halfway stops it.
          also   It says that it is at 50 %: half way.
          also   Its time is over at TIME, in SPAN.
          seen   by s1 at TIME
        """,
    )


def test_a_job_that_waits_for_a_lock(explained: ExplainedCluster) -> None:
    explained.submit("holder", "exclusive", {"name": "printer", "seconds": 600}, queue="work")
    wait_until(lambda: any(int(line[0]) == explained.ids["holder"] for line in explained.fleet.trace))
    explained.submit("waiter", "exclusive", {"name": "printer", "seconds": 600}, queue="work")
    explained.wait_for("waiter", "lock_held")
    expect(
        explained.explanation_of("waiter"),
        """
        job #waiter running (lock_held)
          It waits for the lock printer, which job #holder (attempt 1, on w1) holds.
          to do  It goes on when the lock is free; taskd cancel ID ends a holder that hangs.
          also   It has been running on w1 for SPAN, as attempt 1.
          seen   by s1 at TIME
        """,
    )
    explained.client.cancel(explained.ids["holder"])
    wait_until(lambda: any(int(line[0]) == explained.ids["waiter"] for line in explained.fleet.trace))
    assert explained.reason("waiter") == "running"
    explained.client.cancel(explained.ids["waiter"])


def test_jobs_that_wait_for_slots_and_for_each_other(explained: ExplainedCluster) -> None:
    quick = [explained.submit(f"quick{n}", "rest", {"seconds": 0}, queue="busy") for n in range(5)]
    explained.fleet.wait_completed(quick)
    explained.submit("busy1", "rest", {"seconds": 600}, queue="busy")
    explained.wait_for("busy1", "running")
    explained.submit("busy2", "block", {"seconds": 600}, queue="busy")
    explained.wait_for("busy2", "running")
    for number in range(1, 6):
        explained.submit(f"next{number}", "rest", {"seconds": 0}, queue="busy")
    # The worker reports the rate of the quick jobs within seconds, and it counts for half a minute.
    wait_until(lambda: "estimate" in explained.client.explain(explained.ids["next1"]))
    explained.wait_for("next1", "slots_busy")
    expect(
        explained.explanation_of("next1"),
        """
        job #next1 queued (slots_busy)
          All 2 slots of the workers that serve queue busy are busy.
          estimate  about SPAN: attempts of queue busy ended at RATE a second over the last SPAN; what comes later and goes first is not counted
          to do     Start workers, or taskd config set worker.concurrency N; taskd cancel ID frees the slot of a job that hangs.
          busy      job #busy1 (rest, queue busy) on w2 for SPAN
          busy      job #busy2 (block, queue busy) on w2 for SPAN
          seen      by s1 at TIME
        """,  # noqa: E501
    )
    explained.wait_for("next5", "jobs_ahead")
    expect(
        explained.explanation_of("next5"),
        """
        job #next5 pending (jobs_ahead)
          4 jobs are ahead of it in queue busy.
          estimate  about SPAN: attempts of queue busy ended at RATE a second over the last SPAN; what comes later and goes first is not counted
          to do     More slots end the backlog sooner: start workers, or taskd config set worker.concurrency N. A higher priority goes first.
          also      All 2 slots of the workers that serve queue busy are busy.
          busy      job #busy1 (rest, queue busy) on w2 for SPAN
          busy      job #busy2 (block, queue busy) on w2 for SPAN
          seen      by s1 at TIME
        """,  # noqa: E501
    )


def test_jobs_that_were_cancelled_before_they_ran_and_as_they_ran(explained: ExplainedCluster) -> None:
    explained.client.cancel(explained.ids["late"])
    text = explained.explanation_of("late")
    explained.ids["again"] = int(explained.client.retry(explained.ids["late"])["id"])
    explained.client.cancel(explained.ids["busy2"])
    explained.wait_for("busy2", "stopping")  # it does not stop by itself, and has a minute to do so
    expect(
        "\n".join((text, explained.explanation_of("late"), explained.explanation_of("busy2"))),
        """
        job #late cancelled (cancelled)
          It was cancelled at TIME, before it ever ran.
          to do  If that was a mistake: taskd retry #late
          seen   by s1 at TIME
        job #late cancelled (cancelled)
          It was cancelled at TIME, before it ever ran.
          to do  If that was a mistake: taskd retry #late
          also   It was retried as job #again.
          seen   by s1 at TIME
        job #busy2 cancelled (stopping)
          It was cancelled at TIME, and w2 is still stopping its task.
          to do  Nothing has to be done: a task that does not stop by itself is killed.
          seen   by s1 at TIME
        """,
    )


def test_a_job_that_only_runs_alone_waits_for_its_neighbour_and_then_runs(explained: ExplainedCluster) -> None:
    worker = explained.fleet.start_worker("w5", "--queues", "lone", "--concurrency", "2", "--processes", "1")
    explained.submit("neighbour", "rest", {"seconds": 600}, queue="lone")
    explained.wait_for("neighbour", "running")
    explained.submit("suspect", "rest", {"seconds": 600}, queue="lone", delay=3600)
    with psycopg.connect(explained.fleet.dsn) as connection:
        connection.execute(
            "UPDATE taskd.jobs SET losses = 2, schedule_at = now() WHERE id = %s", [explained.ids["suspect"]]
        )
    explained.client.cancel(explained.submit("other", "rest", {"seconds": 0}, queue="lone"))  # wakes the dispatcher
    waiting = wait_until(lambda: text if "lets its other" in (text := explained.explanation_of("suspect")) else "", 60)
    explained.client.cancel(explained.ids["neighbour"])
    explained.wait_for("suspect", "running", beside="alone")
    expect(
        waiting + "\n" + explained.explanation_of("suspect"),
        """
        job #suspect queued (needs_worker)
          It waits for a worker of its own, since 2 workers disappeared under it: w5 lets its other jobs end first.
          to do  Nothing has to be done: a worker lets what it runs end first. More workers make it sooner.
          seen   by s1 at TIME
        job #suspect running (running)
          It has been running on w5 for SPAN, as attempt 1.
          to do  Nothing has to be done. taskd cancel #suspect stops it.
          also   It runs alone on its worker, since 2 workers disappeared under it.
          seen   by s1 at TIME
        """,
    )
    metrics = web.get(f"{worker.url}/metrics", headers={"Accept": "text/plain"}).text
    assert "taskd_lone_attempts_total 1.0" in metrics
    explained.client.cancel(explained.ids["suspect"])
    assert worker.terminate() == 0


def test_a_job_that_completed(explained: ExplainedCluster) -> None:
    explained.submit("done", "rest", {"seconds": 0}, queue="work")
    explained.wait_for("done", "completed")
    expect(
        explained.explanation_of("done"),
        """
        job #done completed (completed)
          It completed at TIME, as attempt 1 on w1.
          to do  Nothing has to be done.
          seen   by s1 at TIME
        """,
    )


def test_a_job_that_failed(explained: ExplainedCluster) -> None:
    explained.submit("hopeless", "give_up", queue="work")
    explained.wait_for("hopeless", "failed")
    expect(
        explained.explanation_of("hopeless"),
        """
        job #hopeless failed (failed)
          It failed for good at TIME, since attempt 1 said that trying again is of no use: no such customer
          to do  taskd status #hopeless shows the attempts. Once the cause is fixed: taskd retry #hopeless
          seen   by s1 at TIME
        """,
    )


def expect_a_lost_doorbell(explained: ExplainedCluster) -> None:
    """Delete the entry of the job `offered`, and check its explanations before and after the leader puts it back."""

    def lost() -> str | None:
        """Delete the job's entry; return the explanation, or None if the leader has already put it back."""
        with explained.redis.connect() as client:
            client.delete("jobs:{slow}:0")
        text = explained.explanation_of("offered")
        return text if "(doorbell_lost)" in text else None

    expect(
        "\n".join(
            line
            for line in str(wait_until(lost)).replace("s2 puts", "s1 puts").splitlines()
            if "without a claim" not in line
        ),
        """
        job #offered queued (doorbell_lost)
          Its entry in Redis is gone; s1 puts it back by TIME.
          to do  Nothing has to be done. If it stays so, look at the leader's log.
          seen   by s1 at TIME
        """,
    )
    # The deletion of the stream has removed the earlier job's entry too.
    explained.wait_for("offered", "jobs_ahead", beside="rung_again")
    expect(
        re.sub(
            r"(once|twice|\d+ times) without a claim", "SO OFTEN without a claim", explained.explanation_of("offered")
        ),
        """
        job #offered queued (jobs_ahead)
          1 job is ahead of it in queue slow.
          to do  More slots end the backlog sooner: start workers, or taskd config set worker.concurrency N. A higher priority goes first.
          also   It was dispatched SO OFTEN without a claim: its entry in Redis was lost.
          seen   by s1 at TIME
        """,  # noqa: E501
    )


def test_jobs_that_were_delivered_offered_and_lost(explained: ExplainedCluster) -> None:
    explained.submit("first", "rest", {"seconds": 600}, queue="slow")
    explained.wait_for("first", "running")
    explained.submit("given", "rest", {"seconds": 0}, queue="slow")
    explained.wait_for("given", "delivered")
    explained.submit("offered", "rest", {"seconds": 0}, queue="slow")
    explained.wait_for("offered", "offered")
    expect(
        explained.explanation_of("given") + "\n" + explained.explanation_of("offered"),
        """
        job #given queued (delivered)
          It was delivered to w3 SPAN ago, which has not claimed it yet.
          to do  Nothing has to be done: what is unclaimed for SPAN goes to another worker. If it stays so, look at the worker's log.
          seen   by s1 at TIME
        job #offered queued (offered)
          It has been offered to the workers of queue slow for SPAN, and none has taken it yet.
          to do  Ask again. If it stays so, look at the workers' logs: do they reach Redis?
          seen   by s1 at TIME
        """,  # noqa: E501
    )
    expect_a_lost_doorbell(explained)


def test_a_job_whose_worker_is_silent_and_then_gone(explained: ExplainedCluster) -> None:
    explained.workers["w3"].suspend()
    explained.wait_for("first", "worker_silent")
    text = explained.explanation_of("first").replace("ran out", "runs out")
    explained.workers["w3"].kill()
    explained.wait_for("first", "no_worker", beside="lost")
    expect(
        text + "\n" + explained.explanation_of("first"),
        """
        job #first running (worker_silent)
          Its worker w3 is silent: its lease runs out at TIME, and then the job runs elsewhere.
          to do  Look at the worker and its host. If it comes back before its lease ends, the attempt goes on.
          also   It has been running on w3 for SPAN, as attempt 1.
          seen   by s1 at TIME
        job #first pending (no_worker)
          No live worker serves queue slow; w3 did until TIME.
          to do  Start one: taskd worker --queues slow --app MODULE
          also   2 jobs are ahead of it in queue slow.
          also   Attempt 1 ended when its worker w3 disappeared.
          seen   by s1 at TIME
        """,
    )


def test_jobs_of_a_worker_on_which_nothing_ends_and_which_then_stops(explained: ExplainedCluster) -> None:
    """Test it this late, since the worker must have run for half a minute."""
    explained.submit("endless", "rest", {"seconds": 600}, queue="idle")
    explained.wait_for("endless", "running")
    explained.submit("behind", "rest", {"seconds": 0}, queue="idle")
    explained.wait_for("behind", "slots_busy", beside="nothing_ends")
    text = explained.explanation_of("behind")
    explained.client.cancel(explained.ids["behind"])
    assert explained.workers["w4"].terminate() == 0
    explained.wait_for("endless", "no_worker", beside="released")
    expect(
        text + "\n" + explained.explanation_of("endless"),
        """
        job #behind queued (slots_busy)
          All 1 slots of the workers that serve queue idle are busy.
          to do  Start workers, or taskd config set worker.concurrency N; taskd cancel ID frees the slot of a job that hangs.
          also   No attempt of this queue has ended in the last SPAN.
          busy   job #endless (rest, queue idle) on w4 for SPAN
          seen   by s1 at TIME
        job #endless pending (no_worker)
          No live worker serves queue idle; w4 did until TIME.
          to do  Start one: taskd worker --queues idle --app MODULE
          also   Attempt 1 was given back by w4 at no cost, as happens when a worker stops.
          seen   by s1 at TIME
        """,
    )


def test_a_job_whose_workers_are_quiet(explained: ExplainedCluster) -> None:
    explained.configure("worker", "quiet", "w1")
    explained.submit("hushed", "rest", {"seconds": 0}, queue="work")
    explained.wait_for("hushed", "workers_quiet")
    text = explained.explanation_of("hushed")
    explained.configure("worker", "resume", "w1")
    explained.wait_for("hushed", "completed")
    expect(
        text,
        """
        job #hushed pending (workers_quiet)
          Every worker that serves queue work takes nothing new: w1 is quiet since TIME by WHO.
          to do  Wake a quiet one (taskd worker resume ID), or start another: taskd worker --queues work --app MODULE
          seen   by s1 at TIME
        """,
    )


def test_a_job_that_no_leader_dispatches(explained: ExplainedCluster) -> None:
    frozen = explained.fleet.leader(list(explained.schedulers.values()))
    (leader,) = (name for name, scheduler in explained.schedulers.items() if scheduler is frozen)
    (other,) = explained.schedulers.keys() - {leader}
    with explained.only(other):
        frozen.suspend()
        explained.submit("stuck", "rest", {"seconds": 0}, queue="work")
        explained.wait_for("stuck", "dispatching", beside="leader_silent")
        waits = explained.explanation_of("stuck", other)
        explained.wait_for("stuck", "no_leader")
        texts = waits + "\n" + explained.explanation_of("stuck", other)
        frozen.resume()
        explained.wait_for("stuck", "completed")
    expect(
        texts.replace(leader, "LEADER").replace(other, "OTHER"),
        """
        job #stuck pending (dispatching)
          It has been due for SPAN, a slot is free, and LEADER dispatches it next.
          to do  Ask again. If it stays so, look at that scheduler's log.
          also   The leader LEADER has not renewed its term for SPAN.
          seen   by OTHER at TIME
        job #stuck pending (no_leader)
          No scheduler leads the cluster, since TIME: LEADER is elected in etcd but does not renew its term in PostgreSQL.
          to do  taskd status shows the schedulers; look at their logs. Until one leads, nothing of the queue is dispatched.
          seen   by OTHER at TIME
        """,
    )


def test_a_job_that_waits_for_redis(explained: ExplainedCluster) -> None:
    explained.redis.suspend()
    explained.submit("silent", "rest", {"seconds": 0}, queue="work")
    explained.wait_for("silent", "redis_away")
    text = explained.explanation_of("silent")
    explained.redis.resume()
    explained.wait_for("silent", "completed")
    head, *rest = text.splitlines()
    assert rest.pop(0).startswith("  Redis has been away since TIME: ")
    expect(
        "\n".join((head, *rest)),
        """
        job #silent pending (redis_away)
          to do  Repair Redis (taskd doctor looks at it). No job is lost, and dispatching goes on by itself.
          seen   by s1 at TIME
        """,
    )


def test_the_document_and_what_there_is_not(explained: ExplainedCluster) -> None:
    explain = explained.fleet.taskd(explained.schedulers["s2"], "explain", str(explained.ids["busy1"]), "--json")
    document: dict[str, Any] = json.loads(explain.stdout)
    assert (document["reason"], document["status"], document["seen_by"]) == ("running", "running", "s2")
    assert document["detail"] | {"task": "rest", "queue": "busy", "worker_id": "w2", "attempt": 1} == document["detail"]
    missing = explained.fleet.taskd(explained.schedulers["s1"], "explain", "999999")
    assert (missing.returncode, missing.stdout, missing.stderr) == (1, "", "error: there is no job 999999\n")


def test_a_job_while_etcd_is_away(explained: ExplainedCluster) -> None:
    """Test it last, since a scheduler that has no etcd for long does not lead."""
    explained.etcd.kill()
    with explained.only("s1"):
        explained.wait_for("busy1", "running", beside="etcd_away")
    expect(
        explained.explanation_of("busy1"),
        """
        job #busy1 running (running)
          It has been running on w2 for SPAN, as attempt 1.
          to do  Nothing has to be done. taskd cancel #busy1 stops it.
          also   etcd has been away since TIME: what workers know, and how fast they work, is not seen.
          seen   by s1 at TIME
        """,
    )
