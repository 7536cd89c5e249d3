"""Test three schedulers that lead three shards, one each: when one dies, the others lead them all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import psycopg

from taskd.dev.servers.ports import free_port
from taskd.domain.shard import shard_of
from taskd.store.migrations import apply_audit
from taskd.torture.checker import examine
from taskd.torture.history import History, Meta, record
from tests import web
from tests.e2e.fleet import Fleet, Process
from tests.e2e.load import Load
from tests.servers import wait_until

#: Two queues of each of three shards.
QUEUES = ("default", "images", "mail", "letters", "video", "reports")


def leaders(scheduler: Process) -> list[str | None]:
    """Return the leader of each shard, as this scheduler reports it."""
    document = web.get(f"{scheduler.url}/leader", timeout=10).json()
    assert document["current_leader"] == document["shards"][0]["current_leader"]
    return [shard["current_leader"] for shard in document["shards"]]


def spread(schedulers: list[Process]) -> list[int]:
    """Return the number of shards of each leader; empty unless all are led and the schedulers agree."""
    views = [leaders(scheduler) for scheduler in schedulers]
    agreed = None not in views[0] and all(view == views[0] for view in views)
    return sorted(Counter(views[0]).values()) if agreed else []


def leader_connections(fleet: Fleet) -> int:
    """Return the number of connections of all leaders to PostgreSQL; that of shard 0 has three more."""
    with psycopg.connect(fleet.dsn) as connection:
        rows = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name LIKE 'taskd:leader:%' AND datname = current_database()"
        )
        return int(rows.fetchall()[0][0])


def grow(load: Load, by: int = 120) -> None:
    """Return when `by` more jobs were accepted."""
    goal = len(load.accepted) + by
    wait_until(lambda: len(load.accepted) >= goal, 40)


def test_shards_are_spread_and_outlive_a_leader(fleet: Fleet, tmp_path: Path) -> None:
    assert [shard_of(queue, 3) for queue in QUEUES] == [0, 1, 2, 0, 1, 2]
    apply_audit(fleet.dsn)
    fleet.more = {"SCHEDULER_SHARDS": "3"}
    schedulers = [fleet.start_scheduler(name) for name in ("s1", "s2", "s3")]
    fleet.start_worker("w1", "--queues", ",".join(QUEUES))
    wait_until(lambda: spread(schedulers) == [1, 1, 1])
    wait_until(lambda: leader_connections(fleet) <= 5 + 2 + 2)  # a former leader has none left
    with Load(fleet, schedulers, queues=QUEUES) as load:
        grow(load)
        killed = schedulers[int((leaders(schedulers[0])[1] or "")[1:]) - 1]
        killed.kill()
        remaining = [scheduler for scheduler in schedulers if scheduler is not killed]
        grow(load)
        wait_until(lambda: spread(remaining) == [1, 2])
        grow(load)
    load.check()
    assert Counter(_queues(fleet)).keys() == set(QUEUES)
    _check_trail(fleet, tmp_path / "history")


def test_the_number_of_shards_is_changed_under_load(fleet: Fleet, tmp_path: Path) -> None:
    """Test a change from 1 to 3 and back, one scheduler after the other, so that they differ for some time."""
    apply_audit(fleet.dsn)
    ports = free_port(), free_port()
    schedulers = [fleet.start_scheduler(f"s{port}", port) for port in ports]
    fleet.start_worker("w1", "--queues", ",".join(QUEUES))
    fleet.leader(schedulers)
    with Load(fleet, schedulers, queues=QUEUES) as load:
        for shards in ("3", "1"):
            fleet.more = {"SCHEDULER_SHARDS": shards}
            for number, port in enumerate(ports):
                grow(load, 60)
                assert schedulers[number].terminate() == 0
                schedulers[number] = fleet.start_scheduler(f"s{port}", port)
            grow(load, 60)
            if shards == "3":
                wait_until(lambda: spread(schedulers) == [1, 2])
                grow(load, 60)
    load.check()
    _check_trail(fleet, tmp_path / "history")


def _queues(fleet: Fleet) -> list[str]:
    with psycopg.connect(fleet.dsn) as connection:
        return [row[0] for row in connection.execute("SELECT queue FROM taskd.finished_jobs").fetchall()]


def _check_trail(fleet: Fleet, folder: Path) -> None:
    folder.mkdir()
    record(fleet.dsn, folder)
    Meta(session_ttl=6.0, ageing=60.0).save(folder)
    history = History.load(folder)
    examination = examine(history)
    assert examination.violations == []
    assert examination.examined["I7"] > 300
    assert {term.shard for term in history.terms} == {0, 1, 2}
