"""Three schedulers lead three shards, one each; one dies, and the others lead them all."""

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
    """Who leads each shard, as this scheduler says."""
    told = web.get(f"{scheduler.url}/leader", timeout=10).json()
    assert told["current_leader"] == told["shards"][0]["current_leader"]
    return [shard["current_leader"] for shard in told["shards"]]


def spread(schedulers: list[Process]) -> list[int]:
    """How many shards each leader leads, if all are led and the schedulers agree about it; else nothing."""
    told = [leaders(scheduler) for scheduler in schedulers]
    agreed = None not in told[0] and all(one == told[0] for one in told)
    return sorted(Counter(told[0]).values()) if agreed else []


def leader_connections(fleet: Fleet) -> int:
    """The connections to PostgreSQL of all leaderships; shard 0 has three duties more."""
    with psycopg.connect(fleet.dsn) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name LIKE 'taskd:leader:%' AND datname = current_database()"
        )
        return int(found.fetchall()[0][0])


def grow(load: Load, by: int = 120) -> None:
    """Return when so many more jobs were accepted."""
    goal = len(load.accepted) + by
    wait_until(lambda: len(load.accepted) >= goal, 40)


def test_shards_are_spread_and_outlive_a_leader(fleet: Fleet, tmp_path: Path) -> None:
    assert [shard_of(queue, 3) for queue in QUEUES] == [0, 1, 2, 0, 1, 2]
    apply_audit(fleet.dsn)
    fleet.more = {"SCHEDULER_SHARDS": "3"}
    schedulers = [fleet.start_scheduler(name) for name in ("s1", "s2", "s3")]
    fleet.start_worker("w1", "--queues", ",".join(QUEUES))
    wait_until(lambda: spread(schedulers) == [1, 1, 1])
    wait_until(lambda: leader_connections(fleet) <= 5 + 2 + 2)  # who handed over has none left
    with Load(fleet, schedulers, queues=QUEUES) as load:
        grow(load)
        doomed = schedulers[int((leaders(schedulers[0])[1] or "")[1:]) - 1]
        doomed.kill()
        left = [scheduler for scheduler in schedulers if scheduler is not doomed]
        grow(load)
        wait_until(lambda: spread(left) == [1, 2])
        grow(load)
    load.check()
    assert Counter(_queues(fleet)).keys() == set(QUEUES)
    _check_trail(fleet, tmp_path / "history")


def test_the_number_of_shards_is_changed_under_load(fleet: Fleet, tmp_path: Path) -> None:
    """From 1 to 3 and back, one scheduler after the other: for a while they count differently."""
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
    found = examine(history)
    assert found.violations == []
    assert found.examined["I7"] > 300
    assert {term.shard for term in history.terms} == {0, 1, 2}
