"""Retries: jobs that failed or were cancelled are submitted once more, as new jobs."""

from __future__ import annotations

from collections.abc import Callable, Collection

from taskd.store.lane import Lane, int_array
from taskd.store.statements import statement

RETRY = statement("retry")


class PostgresRetries:
    """Implements `taskd.seams.Retries`. Calls `stored` after each commit, in the event loop: it wakes the dispatcher."""

    def __init__(self, lane: Lane, *, stored: Callable[[], None]) -> None:
        self._lane = lane
        self._stored = stored

    async def retry(self, job_ids: Collection[int]) -> dict[int, int]:
        rows = await self._lane.fetch(RETRY, {"ids": int_array(sorted(set(job_ids)))})
        if rows:
            self._stored()
        return dict(rows)
