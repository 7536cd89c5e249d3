"""Ticks of a schedule: of a cron expression in a time zone, or of an interval from its anchor."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import msgspec

from taskd.domain.cron import Cron, check_cron

__all__ = ["LEAST_EVERY", "MAX_CRON", "MOST_EVERY", "TickRule", "check_cron", "zone"]

#: The least and the most seconds of an interval; ten years.
LEAST_EVERY, MOST_EVERY = 1.0, 315_360_000.0
MAX_CRON = 255


class TickRule(msgspec.Struct, frozen=True, kw_only=True):
    """`cron` in the zone `tz`, or `every` so many seconds; exactly one of the two."""

    cron: str | None = None
    every: float | None = None
    tz: str = "UTC"

    def after(self, moment: datetime, anchor: datetime) -> Iterator[datetime]:
        """The ticks later than `moment`, in UTC; an interval's first tick comes one interval after `anchor`.

        Raises ValueError, perhaps at the first tick only, if zone or expression is not known here: another version took it.
        """
        if self.every is not None:
            return _interval(timedelta(seconds=self.every), moment, anchor)
        return Cron(self.cron or "").after(moment.astimezone(UTC), zone(self.tz))

    def latest(self, since: datetime, until: datetime, anchor: datetime, limit: int) -> list[datetime]:
        """Return the ticks later than `since`, not later than `until`, in order; of many the last `limit`, at their cost."""
        found = self._between(since, until, anchor, limit + 1)
        if len(found) <= limit:
            return found
        times = limit
        while True:
            begin = max(since, self._back(until, anchor, times))
            found = self._between(begin, until, anchor)
            if len(found) >= limit or begin == since:
                return found[-limit:]
            times *= 2  # a change of clocks has left some out

    def _between(self, since: datetime, until: datetime, anchor: datetime, limit: int | None = None) -> list[datetime]:
        return list(islice(takewhile(lambda tick: tick <= until, self.after(since, anchor)), limit))

    def _back(self, moment: datetime, anchor: datetime, ticks: int) -> datetime:
        """A moment behind which at least so many ticks lie, if there are as many."""
        if self.every is not None:
            return max(anchor, moment - timedelta(seconds=self.every) * ticks)
        return Cron(self.cron or "").back(moment, zone(self.tz), ticks)


def zone(name: str) -> tzinfo:
    """The time zone. Raises ValueError for a name that is none."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError("is no time zone of the IANA database, as in Europe/Berlin or UTC") from None


def _interval(every: timedelta, moment: datetime, anchor: datetime) -> Iterator[datetime]:
    """Counted from the anchor each time, so that nothing adds up."""
    number = max(0, (moment - anchor) // every) + 1
    while True:
        yield anchor + every * number
        number += 1
