"""Test the live configuration through the installed executable: running processes apply each change."""

from __future__ import annotations

import json

from tests import web
from tests.e2e.fleet import Fleet
from tests.servers import wait_until


def test_a_queue_is_paused_and_goes_on(fleet: Fleet) -> None:
    scheduler, _worker = fleet.start_scheduler("s1"), fleet.start_worker("w1", "--queues", "default,other")
    client = fleet.client(scheduler)
    command = fleet.taskd(scheduler, "config", "set", "queue.default.paused", "true")
    assert (command.returncode, command.stdout) == (0, "version 1: set queue.default.paused = true\n")
    waiting = client.submit({"task": "nap", "payload": {"seconds": 0}})["id"]
    other = client.submit({"task": "nap", "payload": {"seconds": 0}, "queue": "other"})["id"]
    assert client.wait(other, 20)["status"] == "completed"  # by then the dispatcher has looked at both
    assert client.job(waiting)["status"] == "pending"
    fleet.taskd(scheduler, "config", "set", "queue.default.paused", "false")
    assert client.wait(waiting, 20)["status"] == "completed"


def test_slots_and_log_levels_change_while_everything_runs(fleet: Fleet) -> None:
    scheduler, worker = fleet.start_scheduler("s1"), fleet.start_worker("w1")

    def slots() -> list[int]:
        return [w["slots"] for w in web.get(f"{scheduler.url}/workers").json()["workers"]]

    wait_until(lambda: slots() == [8])
    fleet.taskd(scheduler, "config", "set", "worker.w1.concurrency", "3")
    wait_until(lambda: slots() == [3])
    wait_until(lambda: "slots changed" in worker.output)
    wait_until(lambda: [q["slots"] for q in web.get(f"{scheduler.url}/queues").json()["queues"]] == [3])
    fleet.taskd(scheduler, "config", "set", "log.level", "ERROR")
    wait_until(lambda: "set log.level" in worker.output)
    fleet.taskd(scheduler, "config", "unset", "worker.w1.concurrency")
    wait_until(lambda: slots() == [8])
    assert worker.output.count("slots changed") == 1  # log.level hides the second line
    history = json.loads(fleet.taskd(scheduler, "config", "history", "--json").stdout)
    assert [v["what"] for v in history] == [
        "unset worker.w1.concurrency",
        'set log.level = "ERROR"',
        "set worker.w1.concurrency = 3",
    ]
    assert all("@" in v["who"] for v in history)


def test_a_bad_value_is_one_line_that_says_what_the_key_takes(fleet: Fleet) -> None:
    scheduler = fleet.start_scheduler("s1")
    command = fleet.taskd(scheduler, "config", "set", "worker.concurrency", "0")
    assert command.returncode == 2
    assert command.stderr.strip().splitlines() == [
        "error: value: worker.concurrency: must be a whole number from 1 to 10000, not 0"
    ]
    command = fleet.taskd(scheduler, "config", "set", "queue.paused", "true")
    assert "there are queue.NAME.paused" in command.stderr
    command = fleet.taskd(scheduler, "config", "get", "worker.concurrency")
    assert (command.returncode, command.stdout) == (
        1,
        "worker.concurrency is not set: each process's own settings apply\n",
    )
    command = fleet.taskd(scheduler, "config", "list")
    assert "nothing is set" in command.stdout
