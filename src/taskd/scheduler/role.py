"""A scheduler process: runs its duties together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from taskd.domain.errors import TransportUnavailable
from taskd.domain.fencing import Term
from taskd.runtime.outage import Outage
from taskd.scheduler.balance import Balance
from taskd.scheduler.dispatch_wakeup import DispatchWakeup
from taskd.scheduler.firer import Firer
from taskd.scheduler.health import watch_postgres, watch_redis
from taskd.scheduler.pruner import Pruner
from taskd.scheduler.reaper import Reaper
from taskd.scheduler.shard import Shard
from taskd.seams import Coordinator, Health, LeaderView, Reads, Transport, Wakes

#: Seconds between publications of the leader's view, and for which one is valid.
VIEW_EVERY, VIEW_TTL = 1.0, 5.0


class SchedulerRole:
    """1. Watch the servers. 2. Lead the shards that this scheduler is elected for. 3. Keep the balance of leaderships. 4. Wake
    its dispatchers at news from other processes. 5. Publish the view of shard 0's leader to workers.
    """

    def __init__(
        self,
        *,
        instance_id: str,
        reads: Reads,
        transport: Transport,
        coordinator: Coordinator,
        postgres: Outage,
        redis: Outage,
        wakeup: DispatchWakeup,
        submitted: Wakes,
        shards: Sequence[Shard],
        reaper: Reaper,
        pruner: Pruner,
        firer: Firer,
    ) -> None:
        self.instance_id = instance_id
        self.shards = len(shards)
        self._reads = reads
        self._transport = transport
        self._coordinator = coordinator
        self._postgres = postgres
        self._redis = redis
        self._wakeup = wakeup
        self._submitted = submitted
        self._shards = shards
        self._reaper = reaper
        self._pruner = pruner
        self.firer = firer
        self._balance = Balance(coordinator, [shard.leadership for shard in shards], instance_id=instance_id)

    @property
    def terms(self) -> Mapping[int, Term]:
        """The terms this scheduler leads in, by shard."""
        return {term.shard: term for shard in self._shards if (term := shard.term) is not None}

    def components(self) -> dict[str, Health]:
        """Return the health of the three servers as this scheduler sees them."""
        return {"postgres": self._postgres.health, "redis": self._redis.health, "etcd": self._coordinator.health}

    def stats(self) -> dict[str, float]:
        """Return this scheduler's figures, for the registry."""
        return {
            "leading": float(len(self.terms)),
            "dispatched": float(sum(shard.dispatcher.dispatched for shard in self._shards)),
            "reoffered": float(sum(shard.reofferer.reoffered for shard in self._shards)),
            "reaped": float(self._reaper.reaped),
            "pruned": float(self._pruner.pruned),
            "fired": float(self.firer.fired),
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then hand over."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(watch_postgres(self._reads, self._postgres)),
                group.create_task(watch_redis(self._transport, self._redis)),
                group.create_task(self._wakeup.listen()),
                group.create_task(self._wakeup.relay(self._submitted.wakes())),
                group.create_task(self._publish()),
                group.create_task(self._balance.run()),
                *(group.create_task(shard.run()) for shard in self._shards),
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _publish(self) -> None:
        """Publish whether the leader reaches PostgreSQL, also after a term that ended because it does not."""
        leadership = self._shards[0].leadership
        while True:
            answers = self._postgres.health.ok
            if leadership.term is not None or (leadership.last_epoch and not answers):
                try:
                    await self._transport.publish_view(LeaderView(leadership.last_epoch, answers), VIEW_TTL)
                except TransportUnavailable as error:
                    self._redis.down(error)
            await asyncio.sleep(VIEW_EVERY)
