"""Spreads the leaderships over the schedulers that live.

Whoever stands for a shard waits in a line, and the first one leads. Everybody stands for every shard, so the lines say who
lives and who leads how much. To step back is to go to the end of a line: for one that waits it costs nothing, for one that
leads it is a handover to the next. Nobody decides for somebody else, and while etcd is away nobody moves.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from taskd.scheduler.leadership import Leadership
from taskd.seams import Coordinator

#: Seconds between looks: about, so that two schedulers with one thought seldom act at once.
EVERY = (0.5, 1.5)


def steps_back(me: str, lines: Mapping[int, Sequence[str]]) -> set[int]:
    """The shards in whose lines, of names, `me` should step back: any number where it waits, one at the most where it leads.

    1. The next in line lets those go first who lead less. 2. Who leads hands over to a next one that leads at least two shards
    less, so that no handover is ever taken back. Shard 0, which has further duties, goes last.
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
    """1. See who stands where. 2. Step back where others lead less. Only when etcd shows what we lead ourselves."""

    def __init__(self, coordinator: Coordinator, leaderships: Sequence[Leadership], *, instance_id: str) -> None:
        self._coordinator = coordinator
        self._leaderships = leaderships
        self._me = instance_id

    async def run(self) -> None:
        """Keep the balance until cancelled."""
        while True:
            await asyncio.sleep(random.uniform(*EVERY))  # noqa: S311  nobody guards a secret with it
            lines = {
                one.shard: [who.instance_id for who in self._coordinator.line(one.shard)] for one in self._leaderships
            }
            if all((lines[one.shard][:1] == [self._me]) == (one.term is not None) for one in self._leaderships):
                for shard in steps_back(self._me, lines):
                    self._leaderships[shard].step_back()
