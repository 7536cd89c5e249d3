"""Closes and deletes old ticks of schedules."""

from __future__ import annotations

import time

from taskd.domain.fencing import Term
from taskd.domain.schedule import START
from taskd.seams import Ticks

#: Seconds for which ticks are kept, and from the end of one walk to the next.
KEEP, EVERY = 7 * 86_400.0, 30.0
#: Ticks in one page.
PAGE = 1000


class FirePruner:
    """Closes the ticks whose jobs have ended and deletes old ones, a page at a time, so that the firer can fire in between.

    A walk reaches every open tick, however many ticks before it have live jobs.
    """

    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks
        self._mark, self._next_at = START, 0.0

    async def page(self, term: Term) -> bool:
        """Do the next page, if it is due; return True if another page is due at once. Raises NotLeader."""
        if time.monotonic() < self._next_at:
            return False
        closed = await self._ticks.close(term, self._mark, PAGE)
        deleted = await self._ticks.forget(term, KEEP, PAGE)
        more = closed.more or deleted >= PAGE
        self._mark = closed.last if more else START
        self._next_at = time.monotonic() + (0.0 if more else EVERY)
        return more
