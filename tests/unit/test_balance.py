"""Who steps back, and that it comes to an end with everybody leading about as much as everybody else."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from taskd.scheduler.balance import steps_back


def test_alone_nobody_steps_back() -> None:
    assert steps_back("a", {0: ["a"], 1: ["a"], 2: ["a"]}) == set()


def test_one_shard_stays_where_it_is() -> None:
    lines = {0: ["a", "b", "c"]}
    assert [steps_back(who, lines) for who in "abc"] == [set(), set(), set()]


def test_who_leads_two_more_than_the_next_hands_one_over_and_keeps_shard_0() -> None:
    lines = {0: ["a", "b"], 1: ["a", "b"], 2: ["a", "b"]}
    assert steps_back("a", lines) == {2}
    assert steps_back("b", lines) == set()


def test_nothing_is_handed_over_that_would_only_move_the_surplus() -> None:
    lines = {0: ["a", "b"], 1: ["b", "a"], 2: ["a", "b"]}
    assert [steps_back(who, lines) for who in "ab"] == [set(), set()]


def test_the_next_in_line_lets_those_go_first_who_lead_less() -> None:
    lines = {0: ["a", "b", "c"], 1: ["a", "b", "c"], 2: ["b", "a", "c"]}
    assert steps_back("b", lines) == {0, 1}
    assert steps_back("a", lines) == {2}
    assert steps_back("c", lines) == set()


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 16, 64])
@pytest.mark.parametrize("schedulers", [1, 2, 3, 5, 8])
def test_whoever_moves_first_it_ends_and_in_balance(shards: int, schedulers: int) -> None:
    dice = random.Random(shards * 100 + schedulers)
    everybody = [f"s{n}" for n in range(schedulers)]
    for _ in range(5):
        lines = {shard: dice.sample(everybody, schedulers) for shard in range(shards)}
        for _turn in range(200 * shards):
            moves = {who: steps_back(who, lines) for who in everybody}
            movers = [who for who in everybody if moves[who]]
            if not movers:
                break
            mover = dice.choice(movers)
            for shard in moves[mover]:
                lines[shard].remove(mover)
                lines[shard].append(mover)
        else:
            raise AssertionError("they never stop")
        leads = Counter(line[0] for line in lines.values())
        assert max(leads.values()) - min(leads[who] for who in everybody) <= 1
