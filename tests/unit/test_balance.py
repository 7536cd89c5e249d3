"""Tests of the balance of shards: which scheduler hands over which shard, and that all lead about as many in the end."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from taskd.scheduler.balance import steps_back


def test_a_single_scheduler_hands_nothing_over() -> None:
    assert steps_back("a", {0: ["a"], 1: ["a"], 2: ["a"]}) == set()


def test_one_shard_stays_where_it_is() -> None:
    lines = {0: ["a", "b", "c"]}
    assert [steps_back(scheduler, lines) for scheduler in "abc"] == [set(), set(), set()]


def test_a_leader_of_two_more_shards_than_the_next_scheduler_hands_one_over_and_keeps_shard_0() -> None:
    lines = {0: ["a", "b"], 1: ["a", "b"], 2: ["a", "b"]}
    assert steps_back("a", lines) == {2}
    assert steps_back("b", lines) == set()


def test_nothing_is_handed_over_that_would_only_move_the_surplus() -> None:
    lines = {0: ["a", "b"], 1: ["b", "a"], 2: ["a", "b"]}
    assert [steps_back(scheduler, lines) for scheduler in "ab"] == [set(), set()]


def test_the_next_candidate_steps_back_for_those_that_lead_fewer_shards() -> None:
    lines = {0: ["a", "b", "c"], 1: ["a", "b", "c"], 2: ["b", "a", "c"]}
    assert steps_back("b", lines) == {0, 1}
    assert steps_back("a", lines) == {2}
    assert steps_back("c", lines) == set()


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 16, 64])
@pytest.mark.parametrize("schedulers", [1, 2, 3, 5, 8])
def test_every_order_of_moves_ends_in_balance(shards: int, schedulers: int) -> None:
    dice = random.Random(shards * 100 + schedulers)
    names = [f"s{n}" for n in range(schedulers)]
    for _ in range(5):
        lines = {shard: dice.sample(names, schedulers) for shard in range(shards)}
        for _turn in range(200 * shards):
            moves = {scheduler: steps_back(scheduler, lines) for scheduler in names}
            movers = [scheduler for scheduler in names if moves[scheduler]]
            if not movers:
                break
            mover = dice.choice(movers)
            for shard in moves[mover]:
                lines[shard].remove(mover)
                lines[shard].append(mover)
        else:
            raise AssertionError("the schedulers never stop")
        leads = Counter(line[0] for line in lines.values())
        assert max(leads.values()) - min(leads[scheduler] for scheduler in names) <= 1
