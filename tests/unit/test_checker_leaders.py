"""I7, I8, I9: terms, dispatches, and the order in which jobs go."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from taskd.domain.shard import shard_of
from taskd.torture.checker import check
from tests.unit.histories import START, Story


@pytest.fixture
def story() -> Story:
    made = Story()
    made.submit(0.0, 1)
    return made


# ---------------------------------------------------------------- I7


def test_i7_epochs_that_do_not_rise_by_one(story: Story) -> None:
    story.takeover(1.0, 2, "L2")
    assert story.broken() == set()
    story.takeover(2.0, 4, "L1")
    assert story.broken() == {("I7", None)}


def test_i7_one_epoch_with_two_holders(story: Story) -> None:
    story.takeover(1.0, 1, "L2")
    assert story.broken() == {("I7", None)}


def test_i7_a_resignation_of_somebody_else(story: Story) -> None:
    story.resign(1.0, 1, "L2")
    assert story.broken() == {("I7", None)}


def test_i7_a_dispatch_after_the_next_takeover(story: Story) -> None:
    story.takeover(1.0, 2, "L2")
    story.dispatch(1.1, 1, by="L1")
    assert story.broken() == {("I7", 1)}


def test_i7_a_dispatch_before_its_leader_took_over(story: Story) -> None:
    story.dispatch(0.5, 1, by="L2")
    story.takeover(1.0, 2, "L2")
    assert story.broken() == {("I7", 1)}


@pytest.mark.parametrize(("committed", "broken"), [(0.999, set()), (1.004, set()), (1.02, {("I7", 1)}), (None, set())])
def test_i7_a_dispatch_that_commits_after_the_next_takeover(
    story: Story, committed: float | None, broken: set[tuple[str, int]]
) -> None:
    story.takeover(1.0, 2, "L2")
    story.dispatch(0.99, 1, by="L1")
    moment = None if committed is None else START + committed
    story.events[-1] = msgspec.structs.replace(story.events[-1], committed=moment)
    assert story.broken() == broken


def test_i7_a_dispatch_after_the_resignation(story: Story) -> None:
    story.resign(1.0, 1, "L1")
    story.dispatch(1.1, 1, by="L1")
    assert story.broken() == {("I7", 1)}


def test_i7_a_dispatch_of_nobody_who_leads(story: Story) -> None:
    story.dispatch(1.1, 1, by="L1")
    story.events[-1] = msgspec.structs.replace(story.events[-1], by="taskd:claim:w1")
    assert story.broken() == {("I7", 1)}


def test_i7_an_epoch_that_is_not_the_one_of_its_time(story: Story) -> None:
    story.takeover(1.0, 2, "L1")
    story.dispatch(1.1, 1, by="L1", epoch=2)
    assert story.broken() == set()
    story.events[-1] = msgspec.structs.replace(story.events[-1], epoch=1)
    assert story.broken() == {("I7", 1)}


def test_i7_a_session_ended_by_a_former_leader(story: Story) -> None:
    story.open(-20.0, "s2", "w2")
    story.takeover(-10.0, 2, "L2")
    story.end(6.0, "s2", "w2", by="taskd:leader:L1")
    assert story.broken() == {("I7", None)}


# ---------------------------------------------------------------- I7, with shards


@pytest.fixture
def sharded() -> Story:
    """Two shards: L2 leads shard 0, which has queue `a` and job 2, and L3 shard 1, which has queue `default` and job 1."""
    assert (shard_of("default", 2), shard_of("a", 2)) == (1, 0)
    made = Story()
    made.takeover(-60.0, 2, "L2", 0, 2)
    made.takeover(-60.0, 1, "L3", 1, 2)
    made.submit(0.0, 1)
    made.submit(0.0, 2, queue="a")
    return made


def test_i7_each_shard_counts_its_own_epochs(sharded: Story) -> None:
    sharded.dispatch(0.1, 1, by="L3")
    sharded.dispatch(0.1, 2, by="L2")
    sharded.takeover(1.0, 2, "L4", 1, 2)
    sharded.resign(1.5, 2, "L2", 0, 2)
    sharded.takeover(2.0, 3, "L5", 0, 2)
    assert sharded.broken() == set()
    sharded.takeover(3.0, 4, "L6", 1, 2)
    assert sharded.broken() == {("I7", None)}


@pytest.mark.parametrize(("job", "other"), [(1, "L2"), (2, "L3")])
def test_i7_a_dispatch_by_another_shards_leader(sharded: Story, job: int, other: str) -> None:
    sharded.dispatch(0.1, job, by=other)
    assert sharded.broken() == {("I7", job)}


def test_i7_a_reoffer_by_another_shards_leader(sharded: Story) -> None:
    sharded.dispatch(0.1, 1, by="L3")
    sharded.move(0.2, 1, "pending", by="taskd:leader:L3")
    sharded.dispatch(0.3, 1, by="L3")
    assert sharded.broken() == set()
    sharded.move(0.4, 1, "pending", by="taskd:leader:L2")
    assert sharded.broken() == {("I7", 1)}


def test_i7_a_takeover_of_one_shard_ends_no_reign_of_another(sharded: Story) -> None:
    sharded.takeover(0.1, 3, "L4", 0, 2)
    sharded.dispatch(0.2, 1, by="L3")
    assert sharded.broken() == set()
    sharded.dispatch(0.3, 2, by="L2")
    assert sharded.broken() == {("I7", 2)}


@pytest.mark.parametrize(("reaper", "broken"), [("L2", set()), ("L3", {("I7", None), ("I7", 1)})])
def test_i7_only_shard_0_reaps_and_it_does_so_for_all(
    sharded: Story, reaper: str, broken: set[tuple[str, int | None]]
) -> None:
    sharded.open(-50.0, "s2", "w2")
    sharded.dispatch(0.1, 1, by="L3")
    sharded.claim(0.2, 1, session="s2", worker="w2")
    sharded.end(1.0, "s2", "w2", by=f"taskd:leader:{reaper}")
    sharded.move(1.1, 1, "pending", by=f"taskd:leader:{reaper}", losses=1)
    assert sharded.broken() == broken


def test_i7_a_term_owns_queues_by_the_number_of_shards_that_its_own_leader_counts() -> None:
    """The number is being changed: one leader counts two shards already, another one still counts one."""
    story = Story()
    story.takeover(-60.0, 1, "L3", 1, 2)
    story.submit(0.0, 1)
    story.submit(0.0, 2)
    story.dispatch(0.1, 1, by="L3")
    story.dispatch(0.2, 2, by="L1")
    assert story.broken() == set()


# ---------------------------------------------------------------- I8


def test_i8_a_dispatch_before_its_time() -> None:
    story = Story()
    story.submit(0.0, 1, due=5.0)
    story.submit(0.0, 2, due=5.0)
    story.dispatch(5.1, 1, began=5.0)
    assert story.broken() == set()
    story.dispatch(5.1, 2, began=4.999999)
    assert story.broken() == {("I8", 2)}


def test_i8_a_claim_of_a_dispatch_that_is_not_the_last(story: Story) -> None:
    story.dispatch(0.1, 1)
    story.move(0.2, 1, "pending", by="taskd:leader:L1")
    story.dispatch(0.3, 1)
    story.claim(0.4, 1)
    assert story.broken() == set()
    story.events[-1] = msgspec.structs.replace(story.events[-1], dispatch_seq=1)
    assert story.broken() == {("I8", 1)}


def test_i8_a_dispatch_that_does_not_count_itself(story: Story) -> None:
    story.dispatch(0.1, 1, dispatch_seq=0)
    assert story.broken() == {("I8", 1)}


def test_i8_a_dispatch_after_the_cancel(story: Story) -> None:
    story.move(0.1, 1, "cancelled", by="taskd:intake:s1")
    story.dispatch(0.2, 1)
    assert ("I8", 1) in story.broken()


# ---------------------------------------------------------------- I9


def two(first: dict[str, Any], second: dict[str, Any], at: float = 3.0) -> Story:
    """Jobs 1 and 2, of which only the second is dispatched."""
    story = Story()
    story.submit(0.0, 1, **first)
    story.submit(0.1, 2, **second)
    story.dispatch(at, 2)
    return story


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
    story = two({"priority": 10}, {"priority": 9})
    story.events[0] = msgspec.structs.replace(story.events[0], committed=START + 2.5)
    assert story.broken() == set()


def test_i9_a_job_that_was_on_its_way_elsewhere_is_not_left_behind() -> None:
    story = two({"priority": 10}, {"priority": 9})
    story.move(3.01, 1, "cancelled", by="taskd:intake:s1", began=2.99)
    assert story.broken() == set()


def test_i9_a_job_that_is_dispatched_by_the_next_batch_was_left_behind() -> None:
    story = two({"priority": 10}, {"priority": 9})
    story.dispatch(3.2, 1)
    assert story.broken() == {("I9", 1)}


def test_i9_the_whole_batch_counts() -> None:
    story = Story()
    for job in range(1, 6):
        story.submit(0.0, job, priority=job)
    story.dispatch(3.0, 5, 4, 3)
    story.dispatch(4.0, 1, 2)
    assert story.broken() == set()
    story = Story()
    for job in range(1, 6):
        story.submit(0.0, job, priority=job)
    story.dispatch(3.0, 5, 4, 2)
    assert story.broken() == {("I9", 3)}


def test_i9_a_job_that_came_back_counts_from_its_return() -> None:
    story = Story()
    story.submit(0.0, 1, priority=10)
    story.submit(0.0, 2, priority=9)
    story.submit(0.0, 3, priority=9)
    story.dispatch(2.0, 1)
    story.dispatch(2.5, 2)
    story.move(3.0, 1, "pending", by="taskd:leader:L1")
    story.dispatch(3.9, 3)
    assert story.broken() == set()
    story.events.pop()
    story.dispatch(4.2, 3)
    assert story.broken() == {("I9", 1)}


@pytest.mark.parametrize(("until", "broken"), [(2.5, set()), (0.5, {("I9", 1)})])
def test_i9_a_postgres_that_stood_still_is_no_witness(until: float, broken: set[tuple[str, int]]) -> None:
    story = two({"priority": 10}, {"priority": 9})
    story.fault(0.2, "SIGSTOP", "postgres")
    story.fault(until, "SIGCONT", "postgres")
    assert story.broken() == broken


def test_i9_thousands_of_batches_take_seconds() -> None:
    story = Story()
    for job in range(40_000):
        story.store(job / 1000, job, priority=job % 100, dedupe_key=None)
    waiting = sorted(range(40_000), key=lambda job: (-(job % 100), job))
    last = dict(enumerate(story.events))
    for number in range(2000):
        xid = story.xid()
        for job in waiting[number * 20 : number * 20 + 20]:
            moved = {"version": 2, "from_status": "pending", "to_status": "queued", "by": "taskd:leader:L1"}
            at = START + 200.0 + number / 100
            times = {"statement_at": at - 0.001, "at": at, "committed": at + 0.001}
            story.events.append(msgspec.structs.replace(last[job], **moved, **times, xid=xid, dispatch_seq=1))
    story.meta["ageing"] = 1e9
    history = story.history()
    began = time.process_time()
    assert check(history) == []
    assert time.process_time() - began < 20.0
