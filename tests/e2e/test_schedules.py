"""Test that no tick of a schedule for each second is lost or doubled when the leader is killed."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg

from tests.e2e.fleet import Fleet
from tests.servers import wait_until

PLAN = {"cron": "* * * * * *", "job": {"task": "echo", "payload": "tick"}}
#: Ticks after the kill, more than the about five seconds of a failover.
MORE = 7


def ticks(fleet: Fleet) -> list[datetime]:
    """Return the ticks of the schedule's jobs, from their metadata."""
    with psycopg.connect(fleet.dsn) as connection:
        rows = connection.execute(
            "SELECT (metadata->>'fire_at')::timestamptz FROM (SELECT metadata FROM taskd.jobs UNION ALL"
            " SELECT metadata FROM taskd.finished_jobs) j WHERE metadata->>'schedule' = 'pulse' ORDER BY 1"
        ).fetchall()
    return [row[0] for row in rows]


def test_a_killed_leader_loses_and_doubles_no_tick(fleet: Fleet) -> None:
    schedulers = [fleet.start_scheduler(name) for name in ("s1", "s2")]
    fleet.spawn("worker", "--id", "w1", "--http-addr", "127.0.0.1:0")
    leader = fleet.leader(schedulers)
    (other,) = (scheduler for scheduler in schedulers if scheduler is not leader)
    client = fleet.client(other)
    created_at = datetime.fromisoformat(client.schedule("PUT", "pulse", body=PLAN)["created_at"])
    wait_until(lambda: len(ticks(fleet)) >= 2)
    leader.kill()
    goal = len(ticks(fleet)) + MORE
    wait_until(lambda: len(ticks(fleet)) >= goal)
    client.schedule("POST", "pulse", "pause")
    fire_times = ticks(fleet)
    first = created_at.replace(microsecond=0) + timedelta(seconds=1)
    assert fire_times == [first + timedelta(seconds=n) for n in range(len(fire_times))]
    fires = client.schedule("GET", "pulse")["fires"]
    job = client.wait(fires[-1]["job_id"], 10)
    assert (job["status"], job["result"]) == ("completed", "tick")
    assert job["metadata"] == {"schedule": "pulse", "fire_at": fires[-1]["fire_at"]}
