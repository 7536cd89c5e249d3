"""Cron expressions in a time zone: what the clock on the wall shows fires.

cronsim says which times on a wall clock an expression names. This module says which instants those are. With a wildcard in
minute or hour, every instant counts at which the clock shows such a time: none in the hour that a change leaves out, both in
the hour that it repeats, so that `*/5 * * * *` comes every five minutes. With a fixed hour and minute, as in Debian's cron, a
time in the hour left out fires once, at its end, and a time in the repeated hour fires the first time only.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice

from cronsim import CronSim, CronSimError
from cronsim.cronsim import RANGES

#: Zones keep an offset for longer than this, so that no change is stepped over.
STEP = timedelta(hours=12)
SECOND = timedelta(seconds=1)
#: What has not fired for so long never does: cronsim's own limit.
NEVER = timedelta(days=50 * 366)
#: What a way back by the wall clock may be wrong by: a zone has skipped a whole day.
SLACK = timedelta(hours=25)


class Cron:
    """An expression of five fields, or of six with the seconds first."""

    def __init__(self, text: str) -> None:
        """Raises ValueError for what is no cron expression, or names a day that there is not."""
        self._text = _normal(text)
        parts = self._text.split()
        minute, hour = parts[-5], parts[-4]
        #: True if hour and minute are fixed.
        self.fixed = not (minute.startswith("*") or hour.startswith("*"))

    def after(self, moment: datetime, where: tzinfo) -> Iterator[datetime]:
        """Yield the instants later than `moment` at which it fires, in UTC."""
        return self._named(moment, where) if self.fixed else self._shown(moment, where)

    def back(self, moment: datetime, where: tzinfo, times: int) -> datetime:
        """Return a moment behind which about so many times of the wall clock lie."""
        wall = moment.astimezone(where).replace(tzinfo=None)
        earlier = [wall, *islice(CronSim(self._text, wall, reverse=True), times)][-1]
        return earlier.replace(tzinfo=where).astimezone(UTC) - SLACK

    def _named(self, moment: datetime, where: tzinfo) -> Iterator[datetime]:
        last = moment
        for wall in CronSim(self._text, moment.astimezone(where).replace(tzinfo=None)):
            instant = wall.replace(tzinfo=where, fold=0).astimezone(UTC)
            if (
                instant.astimezone(where).replace(tzinfo=None) != wall
            ):  # left out: fold 1 lies before the change, 0 behind it
                before = wall.replace(tzinfo=where, fold=1).astimezone(UTC)
                instant = change(where, before, instant) or instant
            if instant > last:
                last = instant
                yield instant

    def _shown(self, moment: datetime, where: tzinfo) -> Iterator[datetime]:
        """Go from change to change: between two, wall clock and instants keep one distance."""
        begin: datetime | None = moment
        last, include = moment, False
        while begin is not None and begin - last < NEVER:
            offset = _offset(where, begin)
            wall = begin.replace(tzinfo=None) + offset
            at, begin = begin, None
            for tick in CronSim(self._text, wall - SECOND if include else wall):
                instant = (tick - offset).replace(tzinfo=UTC)
                begin = change(where, at, instant)
                if begin is not None:
                    break
                at = last = instant
                yield instant
            include = True


@lru_cache(maxsize=1024)
def check_cron(text: str, where: tzinfo) -> None:
    """Raise ValueError if `text` is no cron expression, or never fires there."""
    if next(Cron(text).after(datetime(2024, 1, 1, tzinfo=UTC), where), None) is None:
        raise ValueError("never fires: there is no such time")


def change(where: tzinfo, after: datetime, until: datetime) -> datetime | None:
    """Return the first instant later than `after`, not later than `until`, at which the zone's offset changes; None if none."""
    old, low = _offset(where, after), after
    while low < until:
        high = min(low + STEP, until)
        if _offset(where, high) != old:
            return _bisect(where, old, low, high)
        low = high
    return None


def _bisect(where: tzinfo, old: timedelta, low: datetime, high: datetime) -> datetime:
    """Return the second at which the offset stops being `old`: it is so at `low`, and not at `high`."""
    low, high = low.replace(microsecond=0), high.replace(microsecond=0) + (SECOND if high.microsecond else timedelta())
    while high - low > SECOND:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        low, high = (middle, high) if _offset(where, middle) == old else (low, middle)
    return high


def _offset(where: tzinfo, instant: datetime) -> timedelta:
    return instant.astimezone(where).utcoffset() or timedelta()


def _normal(text: str) -> str:
    """Return the expression as cronsim reads it right. Raises ValueError for what is none, or never fires."""
    try:
        fields = text.split()
        ranges = RANGES[6 - len(fields) :] if len(fields) in (5, 6) else []
        found = (
            " ".join(_field(field, values) for field, values in zip(fields, ranges, strict=True)) if ranges else text
        )
        _check_days(found)
        CronSim(found, datetime(2024, 1, 1))
    except CronSimError as error:
        reason = f"{str(error)[:1].lower()}{str(error)[1:]}"
    except _BadStep as error:
        reason = str(error)
    else:
        return found
    raise ValueError(
        f"is no cron expression ({reason}): write minute hour day month weekday, as in"
        " */5 * * * *, with the seconds before them if wanted"
    )


class _BadStep(Exception):
    """A step that is longer than its field."""


def _field(text: str, values: range) -> str:
    return ",".join(_term(term, values) for term in text.split(","))


def _term(text: str, values: range) -> str:
    span, slash, step = text.partition("/")
    if not slash:
        return text
    if step.isascii() and step.isdecimal() and int(step) > len(values):
        raise _BadStep(f"the step {step} is longer than the {len(values)} values of its field")
    first, dash, last = span.partition("-")
    # Of a single value cronsim takes the step to go on to the end of the field, also where it is written as a range.
    return first if dash and first == last else text


def _check_days(text: str) -> None:
    """Raise ValueError for a day that none of the months has; cronsim calls it a bad day."""
    try:
        CronSim(text, datetime(2024, 1, 1))
    except CronSimError as error:
        fields = text.split()
        if str(error) != "Bad day-of-month" or len(fields) not in (5, 6):
            raise
        anywhere = " ".join([*fields[:-2], "*", fields[-1]])  # in all months: what is no day stays bad
        CronSim(anywhere, datetime(2024, 1, 1))
        raise ValueError("never fires: none of its months has that day") from None
