"""The fleet: the live workers' slots, queue by queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from taskd.domain.errors import StoreUnavailable
from taskd.runtime.config import Config
from taskd.seams import Coordinator, Reads

#: Least seconds between looks: a large fleet's registry changes all the time, since its figures do.
PAUSE = 0.2


class Fleet:
    """Slots per queue, from the workers' sessions in PostgreSQL: a worker without one could not claim anyway.

    1. Look every `every` seconds. 2. Look at once when etcd's registry changes. 3. Call `changed` when the sessions differ.
    """

    def __init__(
        self, reads: Reads, coordinator: Coordinator, config: Config, *, every: float, changed: Callable[[], None]
    ) -> None:
        self._reads = reads
        self._coordinator = coordinator
        self._config = config
        self._every = every
        self._changed = changed
        self._looking = asyncio.Lock()
        self._sessions: list[tuple[str, tuple[str, ...], int]] = []

    @property
    def slots(self) -> Mapping[str, int]:
        """The live slots of each queue. Workers that are quiet and queues that are paused do not count."""
        version, slots = self._config.now, Counter[str]()
        for worker_id, queues, count in self._sessions:
            if not version.quiet(worker_id):
                slots.update({queue: count for queue in queues if not version.paused(queue)})
        return slots

    async def run(self) -> None:
        """Keep looking until cancelled. Each led shard runs this as a duty, and one of them looks for all."""
        async with self._looking:
            while True:
                # A change during a look must start the next one.
                news = asyncio.ensure_future(self._coordinator.changed())
                try:
                    await self._look()
                    await asyncio.sleep(PAUSE)
                    await asyncio.wait({news}, timeout=self._every)
                finally:
                    news.cancel()

    async def _look(self) -> None:
        try:
            rows = await self._reads.sessions()
        except StoreUnavailable:
            return  # the renewal meets the same outage and reports it
        sessions = sorted((session.worker_id, session.queues, session.slots) for session in rows)
        if sessions != self._sessions:
            self._sessions = sessions
            self._changed()
