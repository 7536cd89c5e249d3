"""Test the control of running workers, and how several of them share the work."""

from __future__ import annotations

from collections import Counter

import psycopg

from tests import web
from tests.e2e.fleet import Fleet
from tests.servers import wait_until


def test_a_quiet_worker_takes_nothing_new_and_finishes_what_it_runs(fleet: Fleet) -> None:
    scheduler, worker = fleet.start_scheduler("s1"), fleet.start_worker("w1")
    client = fleet.client(scheduler)
    running = client.submit({"task": "nap", "payload": {"seconds": 2}})["id"]
    wait_until(lambda: client.job(running)["status"] == "running")
    command = fleet.taskd(scheduler, "worker", "quiet", "w1")
    assert (command.returncode, command.stdout) == (0, "worker w1 takes nothing new\n")
    wait_until(lambda: "quiet: taking nothing new" in worker.output)
    waiting = client.submit({"task": "nap", "payload": {"seconds": 0}})["id"]
    assert client.wait(running, 20)["status"] == "completed"
    assert client.job(waiting)["status"] == "pending"
    fleet.taskd(scheduler, "worker", "resume", "w1")
    assert client.wait(waiting, 20)["status"] == "completed"


def test_a_worker_that_drains_finishes_and_ends(fleet: Fleet) -> None:
    scheduler, worker = fleet.start_scheduler("s1"), fleet.start_worker("w1")
    client = fleet.client(scheduler)
    running = client.submit({"task": "nap", "payload": {"seconds": 2}})["id"]
    wait_until(lambda: client.job(running)["status"] == "running")
    assert fleet.taskd(scheduler, "worker", "drain", "w1").stdout == "worker w1 drains and ends\n"
    assert worker.popen.wait(30) == 0
    job = client.job(running)
    assert (job["status"], job["attempt"]) == ("completed", 1)
    fleet.start_worker("w1")  # the next process of this id works
    again = client.submit({"task": "nap", "payload": {"seconds": 0}})["id"]
    assert client.wait(again, 20)["status"] == "completed"


def test_an_unknown_worker_is_one_line(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    command = fleet.taskd(scheduler, "worker", "quiet", "absent")
    assert (command.returncode, command.stderr) == (
        1,
        "error: there is no live worker 'absent': taskd status shows the live workers\n",
    )


def test_equal_workers_take_equal_shares(fleet: Fleet) -> None:
    jobs = 10_000
    scheduler = fleet.start_scheduler("s1")
    for number in range(4):
        fleet.start_worker(f"w{number}", "--processes", "1")
    wait_until(lambda: len(web.get(f"{scheduler.url}/workers").json()["workers"]) == 4)
    fleet.client(scheduler).submit_batch([{"task": "rest", "payload": {"seconds": 0.01}}] * jobs)
    with psycopg.connect(fleet.dsn, autocommit=True) as connection:

        def done() -> Counter[str]:
            rows = connection.execute("SELECT worker_id, count(*) FROM taskd.finished_jobs GROUP BY 1").fetchall()
            return Counter(dict(rows))

        wait_until(lambda: done().total() == jobs, 120)
        shares = {worker: ended / jobs for worker, ended in done().items()}
    assert len(shares) == 4
    assert all(0.2 <= share <= 0.3 for share in shares.values()), shares
