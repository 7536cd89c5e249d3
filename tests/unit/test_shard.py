"""Tests of the shard of a queue."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

from taskd.domain.fencing import Term
from taskd.domain.shard import shard_of


def test_a_queue_keeps_its_shard_for_ever() -> None:
    """These values are in every database, through the function that the migration made."""
    assert [shard_of(queue, 64) for queue in ("default", "mail", "bilder/größe", "")] == [1, 49, 42, 2]


def test_one_shard_has_every_queue() -> None:
    assert {shard_of(f"queue-{n}", 1) for n in range(100)} == {0}


def test_queues_are_spread_evenly() -> None:
    counts = Counter(shard_of(f"queue-{n}", 8) for n in range(8000))
    assert set(counts) == set(range(8))
    assert min(counts.values()) > 800


def test_a_term_owns_the_queues_of_its_shard_alone() -> None:
    terms = [Term(1, uuid4(), shard, 3) for shard in range(3)]
    for n in range(100):
        assert [term.shard for term in terms if term.owns(f"queue-{n}")] == [shard_of(f"queue-{n}", 3)]
