"""Spreads the leaderships over the live schedulers.

The candidates for a shard wait in a line, and the first one leads. Every scheduler is a candidate for every shard, so the
lines show which schedulers live and how many shards each leads. To step back is to go to the end of a line. For a waiting
candidate this costs nothing; for the leader it is a handover to the next candidate. Each scheduler decides only for itself,
and while etcd is away no scheduler moves.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from taskd.scheduler.leadership import Leadership
from taskd.seams import Coordinator

#: Seconds between looks: a random number between these, so that two schedulers seldom act at once.
EVERY = (0.5, 1.5)


def steps_back(me: str, lines: Mapping[int, Sequence[str]]) -> set[int]:
    """Return the shards in whose lines `me` should step back: any number where it waits, at most one where it leads.

    `lines`: the candidates' names for each shard, the leader first. 1. The next in line steps back if a candidate behind it
    leads fewer shards. 2. A leader hands over if the next in line leads at least two shards less, so that no handover is
    ever taken back. Shard 0, which has further duties, goes last.
    """
    leads = Counter(line[0] for line in lines.values() if line)
    waiting = {
        shard
        for shard, line in lines.items()
        if line[1:2] == [me] and any(leads[other] < leads[me] for other in line[2:])
    }
    surplus = [
        shard for shard, line in lines.items() if line[:1] == [me] and line[1:] and leads[line[1]] <= leads[me] - 2
    ]
    return waiting | set(sorted(surplus)[-1:])


class Balance:
    """1. Read the lines. 2. Step back where other schedulers lead fewer shards.

    It acts only while etcd shows the same leaderships as this process has.
    """

    def __init__(self, coordinator: Coordinator, leaderships: Sequence[Leadership], *, instance_id: str) -> None:
        self._coordinator = coordinator
        self._leaderships = leaderships
        self._me = instance_id

    async def run(self) -> None:
        """Keep the balance until cancelled."""
        while True:
            await asyncio.sleep(random.uniform(*EVERY))  # noqa: S311  no secret depends on it
            lines = {
                leadership.shard: [leader.instance_id for leader in self._coordinator.line(leadership.shard)]
                for leadership in self._leaderships
            }
            if all(
                (lines[leadership.shard][:1] == [self._me]) == (leadership.term is not None)
                for leadership in self._leaderships
            ):
                for shard in steps_back(self._me, lines):
                    self._leaderships[shard].step_back()
