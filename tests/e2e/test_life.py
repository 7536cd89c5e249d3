"""Test a job's life through the installed executable: order, time, dedupe, retries, draining."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests import web
from tests.e2e.fleet import Fleet, batch
from tests.e2e.load import check_trace
from tests.servers import wait_until


def test_jobs_run_and_their_results_are_kept(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    fleet.start_worker("w1")
    client = fleet.client(scheduler)
    job = client.submit({"task": "nap", "payload": {"seconds": 0}})
    done = client.wait(job["id"], 20)
    assert (done["status"], done["result"], done["worker_id"], done["attempt"]) == ("completed", 0, "w1", 1)
    assert [a["outcome"] for a in done["attempts"]] == ["completed"]


def test_the_urgent_go_first_when_the_slots_are_busy(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    client = fleet.client(scheduler)
    low = batch(client, "nap", [{"seconds": 0.05}] * 60, priority=1)
    fleet.start_worker("w1", "--concurrency", "2", "--processes", "1")
    wait_until(lambda: len(fleet.trace) > 10)
    urgent = client.submit({"task": "nap", "payload": {"seconds": 0}, "priority": 90})["id"]
    fleet.wait_completed([*low, urgent])
    started = [int(job) for job, _, what, _ in fleet.trace if what == "start"]
    assert started.index(urgent) < 50
    assert started.index(urgent) != 0


def test_a_backlog_runs_by_priority_then_time_then_id(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    client = fleet.client(scheduler)
    past = (datetime.now(UTC) - timedelta(seconds=20)).isoformat()
    last, second = batch(client, "nap", [{"seconds": 0}] * 2, priority=3)
    early = client.submit({"task": "nap", "payload": {"seconds": 0}, "priority": 3, "schedule_at": past})["id"]
    first = client.submit({"task": "nap", "payload": {"seconds": 0}, "priority": 4})["id"]
    fleet.start_worker("w1", "--concurrency", "1", "--processes", "1")
    fleet.wait_completed([first, early, last, second])
    assert [int(job) for job, _, what, _ in fleet.trace if what == "start"] == [first, early, last, second]


def test_a_delayed_job_waits_for_its_time_and_no_longer(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    fleet.start_worker("w1")
    client = fleet.client(scheduler)
    job = client.submit({"task": "nap", "payload": {"seconds": 0}, "delay": 1.5})
    assert job["status"] == "pending"
    done = client.wait(job["id"], 20)
    late = datetime.fromisoformat(done["started_at"]) - datetime.fromisoformat(done["schedule_at"])
    assert timedelta(0) <= late < timedelta(seconds=1)


def test_two_hundred_submitters_of_one_key_at_two_schedulers_make_one_job(fleet: Fleet) -> None:
    urls = [fleet.start_scheduler(name).url for name in ("s1", "s2")]
    body = {"payload": {"seconds": 0}, "task": "nap", "dedupe_key": "same"}
    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(lambda n: web.post(f"{urls[n % 2]}/jobs", json=body, timeout=20), range(200)))
    assert sorted({response.status_code for response in responses}) == [200, 201]
    assert sum(response.status_code == 201 for response in responses) == 1
    assert len({response.json()["id"] for response in responses}) == 1
    assert all(response.json()["duplicate"] for response in responses if response.status_code == 200)


def test_two_workers_share_a_queue(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    for name in ("w1", "w2"):
        fleet.start_worker(name, "--concurrency", "4")
    client = fleet.client(scheduler)
    ids = batch(client, "nap", [{"seconds": 0.02}] * 200)
    fleet.wait_completed(ids)
    shares = {w: sum(client.job(i)["worker_id"] == w for i in ids) for w in ("w1", "w2")}
    assert all(60 <= share <= 140 for share in shares.values()), shares
    check_trace(fleet)


def test_a_failing_job_is_retried_and_a_crashing_one_stops_at_its_limit(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    fleet.start_worker("w1")
    client = fleet.client(scheduler)
    quick = {"initial": 0.05, "max": 0.1}
    flaky = client.submit({"task": "flaky", "payload": {"failures": 2}, "retry_backoff": quick})["id"]
    hopeless = client.submit({"task": "flaky", "payload": {"failures": 9}, "retry_backoff": quick, "max_retries": 1})[
        "id"
    ]
    unknown = client.submit({"task": "no-such-name", "payload": 1, "max_retries": 0})["id"]
    done = client.wait(flaky, 30)
    assert (done["status"], done["result"], done["attempt"]) == ("completed", 3, 3)
    assert [a["outcome"] for a in done["attempts"]] == ["failed", "failed", "completed"]
    failed = client.wait(hopeless, 30)
    assert (failed["status"], failed["attempt"]) == ("failed", 2)
    assert "attempt 2 fails" in failed["error"]
    assert "no-such-name" in client.wait(unknown, 30)["error"]


def test_a_poisonous_job_fails_alone(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    fleet.start_worker("w1", "--processes", "1")
    client = fleet.client(scheduler)
    quick = {"initial": 0.05, "max": 0.1}
    innocent = batch(client, "nap", [{"seconds": 1}] * 4, max_retries=0, retry_backoff=quick)
    poison = client.submit({"task": "die", "payload": {}, "retry_backoff": quick, "max_retries": 50})["id"]
    crashed = client.wait(poison, 60)
    assert (crashed["status"], crashed["attempt"]) == ("failed", 3), "\n".join(map(str, crashed["attempts"]))
    assert "exit" in crashed["error"]
    fleet.wait_completed(innocent)


def test_sigterm_drains_what_fits_and_releases_the_rest_at_no_cost(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    worker = fleet.start_worker("w1", "--processes", "1")
    client = fleet.client(scheduler)
    short = client.submit({"task": "nap", "payload": {"seconds": 1}, "max_retries": 0})["id"]
    long = client.submit({"task": "block", "payload": {"seconds": 600}, "max_retries": 0})["id"]
    wait_until(lambda: len(fleet.trace) == 2)
    assert worker.terminate() == 0
    assert client.job(short)["status"] == "completed"
    released = client.job(long)
    assert released["status"] in ("pending", "queued")
    assert released["attempts"][0]["outcome"] == "released"
    assert web.get(f"{scheduler.url}/workers").json()["workers"] == []
    fleet.start_worker("w2")
    wait_until(lambda: client.job(long)["status"] == "running")
    assert client.job(long)["attempt"] == 2


def test_a_second_worker_with_the_same_id_is_refused_with_one_line(fleet: Fleet) -> None:
    fleet.start_worker("w1")
    twin = fleet.spawn("worker", "--id", "w1", "--http-addr", "127.0.0.1:0")
    assert twin.popen.wait(timeout=30) == 1
    error = [line for line in twin.output.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert "w1" in error[0]
    assert "--id" in error[0]


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["worker", "--app", "no.such.module"], {}, ["no.such.module"]),
        (["worker", "--app", "tests.e2e.tasks:missing"], {}, ["missing"]),
        (["scheduler"], {"POSTGRES_DSN": "postgresql://no-such-name@127.0.0.1:1/x x"}, ["POSTGRES_DSN"]),
        (["scheduler"], {"TASKD_HTTP__PORT": "1"}, ["TASKD_HTTP__PORT", "addr"]),
        (["scheduler"], {"REDIS_URL": "http://x"}, ["REDIS_URL"]),
    ],
)
def test_what_cannot_work_is_one_line_that_says_what_to_repair(
    fleet: Fleet, arguments: list[str], environment: dict[str, str], words: list[str]
) -> None:
    process = fleet.spawn(*arguments, "--http-addr", "127.0.0.1:0", **environment)
    assert process.popen.wait(timeout=30) == 1
    errors = [line for line in process.output.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, process.output
    assert all(word in errors[0] for word in words), errors


def test_a_session_whose_answer_was_lost_is_taken_up(fleet: Fleet) -> None:
    """Test that the worker opens its session again, recognizes it, and does not wait for itself."""
    fleet.start_scheduler("s1")
    worker = fleet.start_worker("w1", TASKD_FAILPOINT="session.opened:error@1")
    assert "working" in worker.output
    assert "waiting: another process" not in worker.output
