"""Cancels: live jobs are moved to history as cancelled."""

from __future__ import annotations

from collections.abc import Callable, Collection
from uuid import uuid4

from taskd.store.lane import Lane, int_array
from taskd.store.statements import statement

CANCEL = statement("cancel")


class PostgresCancels:
    """Implements `taskd.seams.Cancels`. Calls `stopped` after each commit, in the event loop, with the jobs that ran."""

    def __init__(self, lane: Lane, *, stopped: Callable[[Collection[int]], None]) -> None:
        self._lane = lane
        self._stopped = stopped
        self._source = uuid4()

    async def cancel(self, job_ids: Collection[int]) -> set[int]:
        parameters = {"ids": int_array(sorted(set(job_ids))), "source": self._source}
        rows = await self._lane.fetch(CANCEL, parameters)
        running = [job_id for job_id, ran in rows if ran]
        if running:
            self._stopped(running)
        return {job_id for job_id, _ in rows}
