"""When a schedule fires: the ticks of a cron expression in a time zone, or of an interval from its anchor.

Cron, where clocks change (as Debian's cron does it): with a fixed hour and minute, what falls into the gap fires once at its
end, and what stands in the repeated hour fires the first time only. With a wildcard in either, what the clock on the wall shows
counts each time, so that `*/5 * * * *` comes every five minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

#: The least and the most seconds of an interval; ten years.
LEAST_EVERY, MOST_EVERY = 1.0, 315_360_000.0
MAX_CRON = 255
#: How much earlier than cronsim's way back says, counting forward begins.
SLACK = timedelta(hours=3)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
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
        return _cron(self.cron or "", zone(self.tz), moment)

    def latest(self, since: datetime, until: datetime, anchor: datetime, limit: int) -> list[datetime]:
        """The ticks later than `since`, not later than `until`, in order; of many the last `limit`, for what those cost."""
        found = self._between(since, until, anchor, limit + 1)
        if len(found) > limit:
            found = self._between(max(since, self._back(until, anchor, limit)), until, anchor)
        return found[-limit:]

    def _between(self, since: datetime, until: datetime, anchor: datetime, limit: int | None = None) -> list[datetime]:
        return list(islice(takewhile(lambda tick: tick <= until, self.after(since, anchor)), limit))

    def _back(self, moment: datetime, anchor: datetime, ticks: int) -> datetime:
        """A moment behind which at least so many ticks lie, if there are as many."""
        if self.every is not None:
            return max(anchor, moment - timedelta(seconds=self.every) * ticks)
        # On its way back across a change of clocks cronsim may go wrong by an hour or two: a hint, and never a tick.
        back = _Cron(self.cron or "", moment.astimezone(zone(self.tz)), reverse=True)
        return [moment, *islice(back, ticks)][-1].astimezone(UTC) - SLACK


def zone(name: str) -> tzinfo:
    """The time zone. Raises ValueError for a name that is none."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError("is no time zone of the IANA database, as in Europe/Berlin or UTC") from None


@lru_cache(maxsize=1024)
def check_cron(text: str, where: tzinfo) -> None:
    """Raise ValueError if `text` is no cron expression, or never fires there."""
    try:
        next(_Cron(text, datetime(2024, 1, 1, tzinfo=where)))
    except StopIteration:
        raise ValueError("never fires: there is no such time") from None


def _interval(every: timedelta, moment: datetime, anchor: datetime) -> Iterator[datetime]:
    """Counted from the anchor each time, so that nothing adds up."""
    number = max(0, (moment - anchor) // every) + 1
    while True:
        yield anchor + every * number
        number += 1


def _cron(text: str, where: tzinfo, moment: datetime) -> Iterator[datetime]:
    """In the repeated hour cronsim begins with its first pass, which may lie behind us."""
    last = moment
    for tick in _Cron(text, moment.astimezone(where)):
        found = tick.astimezone(UTC)
        if found > last:
            last = found
            yield found


class _Cron(CronSim):
    """Cronsim with two mends: it goes from hour to hour by what is left of each, because Lord Howe's clocks change by half an
    hour; and six fields with a fixed hour and minute are treated as five are where clocks change."""

    def __init__(self, text: str, moment: datetime, reverse: bool = False) -> None:
        """Raises ValueError if `text` is no cron expression."""
        try:
            super().__init__(text, moment, reverse)
        except CronSimError as error:
            raise ValueError(
                f"is no cron expression ({str(error)[:1].lower()}{str(error)[1:]}): write minute hour day month weekday, as in"
                " */5 * * * *, with the seconds before them if wanted"
            ) from None
        fixed = not any(field.startswith("*") for field in self.parts[1:3])
        if fixed and self.dt.tzinfo not in (None, UTC):
            self.fixup_tz, self.dt = self.dt.tzinfo, self.dt.replace(tzinfo=None)

    def advance_minute(self) -> bool:
        """Go to the next minute that fits; True if this one does not."""
        if self.dt.minute in self.minutes:
            return False
        self.tick(60 - self.dt.second)
        while self.dt.minute not in self.minutes and self.dt.minute != 0:
            self.tick(60)
        return True

    def advance_hour(self) -> bool:
        """Go to the beginning of the next hour; True if this one does not fit."""
        if self.dt.hour in self.hours:
            return False
        self.tick(3600 - 60 * self.dt.minute - self.dt.second)
        return True

    def advance_day(self) -> bool:
        """Go to the beginning of the next day that fits; True if this one does not."""
        moved = super().advance_day()
        self._exist()
        return moved

    def advance_month(self) -> None:
        """Go to the beginning of the next month that fits."""
        super().advance_month()
        self._exist()

    def _exist(self) -> None:
        """A day may begin at one o'clock."""
        if self.dt.tzinfo is not None:
            self.dt = self.dt.astimezone(UTC).astimezone(self.dt.tzinfo)
