"""Tests of the invariants I7, I8 and I9: terms, dispatches, and the order of dispatch."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from taskd.domain.shard import shard_of
from taskd.torture.checker import check
from tests.unit.histories import START, HistoryBuilder


@pytest.fixture
def history() -> HistoryBuilder:
    history = HistoryBuilder()
    history.submit(0.0, 1)
    return history


# ---------------------------------------------------------------- I7


def test_i7_epochs_that_do_not_rise_by_one(history: HistoryBuilder) -> None:
    history.takeover(1.0, 2, "L2")
    assert history.broken() == set()
    history.takeover(2.0, 4, "L1")
    assert history.broken() == {("I7", None)}


def test_i7_one_epoch_with_two_holders(history: HistoryBuilder) -> None:
    history.takeover(1.0, 1, "L2")
    assert history.broken() == {("I7", None)}


def test_i7_a_resignation_by_another_scheduler(history: HistoryBuilder) -> None:
    history.resign(1.0, 1, "L2")
    assert history.broken() == {("I7", None)}


def test_i7_a_dispatch_after_the_next_takeover(history: HistoryBuilder) -> None:
    history.takeover(1.0, 2, "L2")
    history.dispatch(1.1, 1, by="L1")
    assert history.broken() == {("I7", 1)}


def test_i7_a_dispatch_before_its_leader_took_over(history: HistoryBuilder) -> None:
    history.dispatch(0.5, 1, by="L2")
    history.takeover(1.0, 2, "L2")
    assert history.broken() == {("I7", 1)}


@pytest.mark.parametrize(("committed", "broken"), [(0.999, set()), (1.004, set()), (1.02, {("I7", 1)}), (None, set())])
def test_i7_a_dispatch_that_commits_after_the_next_takeover(
    history: HistoryBuilder, committed: float | None, broken: set[tuple[str, int]]
) -> None:
    history.takeover(1.0, 2, "L2")
    history.dispatch(0.99, 1, by="L1")
    moment = None if committed is None else START + committed
    history.events[-1] = msgspec.structs.replace(history.events[-1], committed=moment)
    assert history.broken() == broken


def test_i7_a_dispatch_after_the_resignation(history: HistoryBuilder) -> None:
    history.resign(1.0, 1, "L1")
    history.dispatch(1.1, 1, by="L1")
    assert history.broken() == {("I7", 1)}


def test_i7_a_dispatch_by_a_worker(history: HistoryBuilder) -> None:
    history.dispatch(1.1, 1, by="L1")
    history.events[-1] = msgspec.structs.replace(history.events[-1], by="taskd:claim:w1")
    assert history.broken() == {("I7", 1)}


def test_i7_an_epoch_that_is_not_the_one_of_its_time(history: HistoryBuilder) -> None:
    history.takeover(1.0, 2, "L1")
    history.dispatch(1.1, 1, by="L1", epoch=2)
    assert history.broken() == set()
    history.events[-1] = msgspec.structs.replace(history.events[-1], epoch=1)
    assert history.broken() == {("I7", 1)}


def test_i7_a_session_ended_by_a_former_leader(history: HistoryBuilder) -> None:
    history.open(-20.0, "s2", "w2")
    history.takeover(-10.0, 2, "L2")
    history.end(6.0, "s2", "w2", by="taskd:leader:L1")
    assert history.broken() == {("I7", None)}


# ---------------------------------------------------------------- I7, with shards


@pytest.fixture
def sharded() -> HistoryBuilder:
    """Two shards: L2 leads shard 0 with queue `a` and job 2, and L3 leads shard 1 with queue `default` and job 1."""
    assert (shard_of("default", 2), shard_of("a", 2)) == (1, 0)
    history = HistoryBuilder()
    history.takeover(-60.0, 2, "L2", 0, 2)
    history.takeover(-60.0, 1, "L3", 1, 2)
    history.submit(0.0, 1)
    history.submit(0.0, 2, queue="a")
    return history


def test_i7_each_shard_counts_its_own_epochs(sharded: HistoryBuilder) -> None:
    sharded.dispatch(0.1, 1, by="L3")
    sharded.dispatch(0.1, 2, by="L2")
    sharded.takeover(1.0, 2, "L4", 1, 2)
    sharded.resign(1.5, 2, "L2", 0, 2)
    sharded.takeover(2.0, 3, "L5", 0, 2)
    assert sharded.broken() == set()
    sharded.takeover(3.0, 4, "L6", 1, 2)
    assert sharded.broken() == {("I7", None)}


@pytest.mark.parametrize(("job", "other"), [(1, "L2"), (2, "L3")])
def test_i7_a_dispatch_by_another_shards_leader(sharded: HistoryBuilder, job: int, other: str) -> None:
    sharded.dispatch(0.1, job, by=other)
    assert sharded.broken() == {("I7", job)}


def test_i7_a_reoffer_by_another_shards_leader(sharded: HistoryBuilder) -> None:
    sharded.dispatch(0.1, 1, by="L3")
    sharded.move(0.2, 1, "pending", by="taskd:leader:L3")
    sharded.dispatch(0.3, 1, by="L3")
    assert sharded.broken() == set()
    sharded.move(0.4, 1, "pending", by="taskd:leader:L2")
    assert sharded.broken() == {("I7", 1)}


def test_i7_a_takeover_of_one_shard_ends_no_term_of_another(sharded: HistoryBuilder) -> None:
    sharded.takeover(0.1, 3, "L4", 0, 2)
    sharded.dispatch(0.2, 1, by="L3")
    assert sharded.broken() == set()
    sharded.dispatch(0.3, 2, by="L2")
    assert sharded.broken() == {("I7", 2)}


@pytest.mark.parametrize(("reaper", "broken"), [("L2", set()), ("L3", {("I7", None), ("I7", 1)})])
def test_i7_only_shard_0_reaps_and_it_does_so_for_all(
    sharded: HistoryBuilder, reaper: str, broken: set[tuple[str, int | None]]
) -> None:
    sharded.open(-50.0, "s2", "w2")
    sharded.dispatch(0.1, 1, by="L3")
    sharded.claim(0.2, 1, session="s2", worker="w2")
    sharded.end(1.0, "s2", "w2", by=f"taskd:leader:{reaper}")
    sharded.move(1.1, 1, "pending", by=f"taskd:leader:{reaper}", losses=1)
    assert sharded.broken() == broken


def test_i7_a_term_owns_queues_by_the_number_of_shards_that_its_own_leader_counts() -> None:
    """The number of shards changes: one leader already counts two, another one still counts one."""
    history = HistoryBuilder()
    history.takeover(-60.0, 1, "L3", 1, 2)
    history.submit(0.0, 1)
    history.submit(0.0, 2)
    history.dispatch(0.1, 1, by="L3")
    history.dispatch(0.2, 2, by="L1")
    assert history.broken() == set()


# ---------------------------------------------------------------- I8


def test_i8_a_dispatch_before_its_time() -> None:
    history = HistoryBuilder()
    history.submit(0.0, 1, due=5.0)
    history.submit(0.0, 2, due=5.0)
    history.dispatch(5.1, 1, began=5.0)
    assert history.broken() == set()
    history.dispatch(5.1, 2, began=4.999999)
    assert history.broken() == {("I8", 2)}


def test_i8_a_claim_of_a_dispatch_that_is_not_the_last(history: HistoryBuilder) -> None:
    history.dispatch(0.1, 1)
    history.move(0.2, 1, "pending", by="taskd:leader:L1")
    history.dispatch(0.3, 1)
    history.claim(0.4, 1)
    assert history.broken() == set()
    history.events[-1] = msgspec.structs.replace(history.events[-1], dispatch_seq=1)
    assert history.broken() == {("I8", 1)}


def test_i8_a_dispatch_that_does_not_count_itself(history: HistoryBuilder) -> None:
    history.dispatch(0.1, 1, dispatch_seq=0)
    assert history.broken() == {("I8", 1)}


def test_i8_a_dispatch_after_the_cancel(history: HistoryBuilder) -> None:
    history.move(0.1, 1, "cancelled", by="taskd:intake:s1")
    history.dispatch(0.2, 1)
    assert ("I8", 1) in history.broken()


# ---------------------------------------------------------------- I9


def two(first: dict[str, Any], second: dict[str, Any], at: float = 3.0) -> HistoryBuilder:
    """Jobs 1 and 2, of which only the second is dispatched."""
    history = HistoryBuilder()
    history.submit(0.0, 1, **first)
    history.submit(0.1, 2, **second)
    history.dispatch(at, 2)
    return history


@pytest.mark.parametrize(
    ("first", "second", "broken"),
    [
        ({"priority": 10}, {"priority": 9}, True),
        ({"priority": 9}, {"priority": 10}, False),
        ({"priority": 5}, {"priority": 5}, True),  # the first is due earlier
        ({"priority": 5, "due": 0.2}, {"priority": 5}, False),
        ({"priority": 5, "due": 0.1}, {"priority": 5}, True),  # the same instant: the lower id
        ({"priority": 60}, {"priority": 10}, False),  # other bands
        ({"priority": 10, "queue": "other"}, {"priority": 9}, False),
        ({"priority": 10, "due": 3.5}, {"priority": 9}, False),  # not due yet
        ({"priority": 9, "due": -70.0}, {"priority": 10, "due": -5.0}, True),  # aged to 10, and due earlier
        ({"priority": 9, "due": -50.0}, {"priority": 10, "due": -5.0}, False),
        ({"priority": 9, "due": -500.0}, {"priority": 10, "due": -5.0}, True),
    ],
)
def test_i9_a_better_job_that_stayed_behind(first: dict[str, Any], second: dict[str, Any], broken: bool) -> None:
    assert two(first, second).broken() == ({("I9", 1)} if broken else set())


def test_i9_a_job_that_was_only_just_stored_may_be_missed() -> None:
    assert two({"priority": 10}, {"priority": 9}, at=0.9).broken() == set()
    assert two({"priority": 10}, {"priority": 9}, at=1.1).broken() == {("I9", 1)}


def test_i9_a_commit_that_took_long_counts_from_its_end() -> None:
    history = two({"priority": 10}, {"priority": 9})
    history.events[0] = msgspec.structs.replace(history.events[0], committed=START + 2.5)
    assert history.broken() == set()


def test_i9_a_job_that_was_on_its_way_elsewhere_is_not_left_behind() -> None:
    history = two({"priority": 10}, {"priority": 9})
    history.move(3.01, 1, "cancelled", by="taskd:intake:s1", began=2.99)
    assert history.broken() == set()


def test_i9_a_job_that_is_dispatched_by_the_next_batch_was_left_behind() -> None:
    history = two({"priority": 10}, {"priority": 9})
    history.dispatch(3.2, 1)
    assert history.broken() == {("I9", 1)}


def test_i9_the_whole_batch_counts() -> None:
    history = HistoryBuilder()
    for job in range(1, 6):
        history.submit(0.0, job, priority=job)
    history.dispatch(3.0, 5, 4, 3)
    history.dispatch(4.0, 1, 2)
    assert history.broken() == set()
    history = HistoryBuilder()
    for job in range(1, 6):
        history.submit(0.0, job, priority=job)
    history.dispatch(3.0, 5, 4, 2)
    assert history.broken() == {("I9", 3)}


def test_i9_a_job_that_came_back_counts_from_its_return() -> None:
    history = HistoryBuilder()
    history.submit(0.0, 1, priority=10)
    history.submit(0.0, 2, priority=9)
    history.submit(0.0, 3, priority=9)
    history.dispatch(2.0, 1)
    history.dispatch(2.5, 2)
    history.move(3.0, 1, "pending", by="taskd:leader:L1")
    history.dispatch(3.9, 3)
    assert history.broken() == set()
    history.events.pop()
    history.dispatch(4.2, 3)
    assert history.broken() == {("I9", 1)}


@pytest.mark.parametrize(("until", "broken"), [(2.5, set()), (0.5, {("I9", 1)})])
def test_i9_the_order_around_a_standstill_of_postgresql_is_not_judged(
    until: float, broken: set[tuple[str, int]]
) -> None:
    history = two({"priority": 10}, {"priority": 9})
    history.fault(0.2, "SIGSTOP", "postgres")
    history.fault(until, "SIGCONT", "postgres")
    assert history.broken() == broken


def test_i9_thousands_of_batches_take_seconds() -> None:
    history = HistoryBuilder()
    for job in range(40_000):
        history.store(job / 1000, job, priority=job % 100, dedupe_key=None)
    waiting = sorted(range(40_000), key=lambda job: (-(job % 100), job))
    last = dict(enumerate(history.events))
    for number in range(2000):
        xid = history.xid()
        for job in waiting[number * 20 : number * 20 + 20]:
            moved = {"version": 2, "from_status": "pending", "to_status": "queued", "by": "taskd:leader:L1"}
            at = START + 200.0 + number / 100
            times = {"statement_at": at - 0.001, "at": at, "committed": at + 0.001}
            history.events.append(msgspec.structs.replace(last[job], **moved, **times, xid=xid, dispatch_seq=1))
    history.meta["ageing"] = 1e9
    built = history.build()
    began = time.process_time()
    assert check(built) == []
    assert time.process_time() - began < 20.0
