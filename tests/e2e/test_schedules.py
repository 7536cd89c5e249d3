"""A schedule for each second, and its leader is killed: no tick is lost and none doubled."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg

from tests.e2e.fleet import Fleet
from tests.servers import wait_until

PLAN = {"cron": "* * * * * *", "job": {"task": "echo", "payload": "tick"}}
#: Ticks after the kill; a failover takes about five seconds of them.
MORE = 7


def ticks(fleet: Fleet) -> list[datetime]:
    """The ticks that made jobs, from the jobs themselves."""
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
    (other,) = (one for one in schedulers if one is not leader)
    client = fleet.client(other)
    made = datetime.fromisoformat(client.schedule("PUT", "pulse", body=PLAN)["created_at"])
    wait_until(lambda: len(ticks(fleet)) >= 2)
    leader.kill()
    goal = len(ticks(fleet)) + MORE
    wait_until(lambda: len(ticks(fleet)) >= goal)
    client.schedule("POST", "pulse", "pause")
    found = ticks(fleet)
    first = made.replace(microsecond=0) + timedelta(seconds=1)
    assert found == [first + timedelta(seconds=n) for n in range(len(found))]
    fires = client.schedule("GET", "pulse")["fires"]
    job = client.wait(fires[-1]["job_id"], 10)
    assert (job["status"], job["result"]) == ("completed", "tick")
    assert job["metadata"] == {"schedule": "pulse", "fire_at": fires[-1]["fire_at"]}
