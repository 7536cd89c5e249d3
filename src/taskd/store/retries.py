"""Jobs that failed or were cancelled are tried again, as new jobs."""

from __future__ import annotations

from collections.abc import Callable, Collection

from taskd.store.lane import Lane, int_array
from taskd.store.statements import statement

RETRY = statement("retry")


class PostgresRetries:
    """Implements `taskd.seams.Retries`. `stored` is called after each commit, in the event loop: the doorbell hangs there."""

    def __init__(self, lane: Lane, *, stored: Callable[[], None]) -> None:
        self._lane = lane
        self._stored = stored

    async def retry(self, job_ids: Collection[int]) -> dict[int, int]:
        """failed or cancelled -> a new pending job; the new ids by the old. The others are not final, completed, retried
        before or unknown."""
        rows = await self._lane.fetch(RETRY, {"ids": int_array(sorted(set(job_ids)))})
        if rows:
            self._stored()
        return dict(rows)
