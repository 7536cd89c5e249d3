"""Who can run jobs: the live workers' slots, queue by queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from taskd.domain.errors import StoreUnavailable
from taskd.runtime.live import Live
from taskd.seams import Coordinator, Reads

#: Seconds from one look to the next, at the least: a large fleet's registry changes all the time, as its figures do.
PAUSE = 0.2


class Fleet:
    """Slots per queue, from the workers' sessions in PostgreSQL: who has none there could not claim anyway.

    1. Look every `every` seconds. 2. Look at once when etcd's registry shows a change. 3. Tell the dispatchers, by `changed`.
    """

    def __init__(
        self, overview: Reads, coordinator: Coordinator, live: Live, *, every: float, changed: Callable[[], None]
    ) -> None:
        self._overview = overview
        self._coordinator = coordinator
        self._live = live
        self._every = every
        self._changed = changed
        self._looking = asyncio.Lock()
        self._sessions: list[tuple[str, tuple[str, ...], int]] = []

    @property
    def slots(self) -> Mapping[str, int]:
        """The live slots of each queue that somebody serves who is not quiet, and nobody paused."""
        version, slots = self._live.now, Counter[str]()
        for worker_id, queues, own in self._sessions:
            if not version.quiet(worker_id):
                slots.update({queue: own for queue in queues if not version.paused(queue)})
        return slots

    async def run(self) -> None:
        """Keep looking until cancelled. It is a duty of each shard that we lead, and one of them looks for all."""
        async with self._looking:
            while True:
                # What changes during a look is news for the next.
                news = asyncio.ensure_future(self._coordinator.changed())
                try:
                    await self._look()
                    await asyncio.sleep(PAUSE)
                    await asyncio.wait({news}, timeout=self._every)
                finally:
                    news.cancel()

    async def _look(self) -> None:
        try:
            found = await self._overview.sessions()
        except StoreUnavailable:
            return  # the renewal meets the same outage and tells of it
        sessions = sorted((session.worker_id, session.queues, session.slots) for session in found)
        if sessions != self._sessions:
            self._sessions = sessions
            self._changed()
