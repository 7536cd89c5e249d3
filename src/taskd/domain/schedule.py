"""Schedules: their ticks and jobs, and the policies for ticks that were missed or overlap an earlier job."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Literal, NamedTuple

import msgspec

from taskd.domain.job import JobSpec
from taskd.domain.ticks import TickRule

#: A tick that is later than this was missed. It is longer than any failover takes, so that none loses a tick.
GRACE = timedelta(seconds=60)
#: The most ticks of the past that a schedule may catch up with.
MAX_CATCH_UP = 1000
#: The number of them if the schedule does not say.
CATCH_UP = 10
#: The most ticks within the grace: one a second, and both ends.
_MOST_ON_TIME = int(GRACE.total_seconds()) + 1


class Missed(StrEnum):
    """The policy for missed ticks: no job; one job for all of them; one job for each of the latest ones."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Overlap(StrEnum):
    """The policy for a tick while an earlier job of the schedule is live: a job at once; no job; a job afterwards.

    At most one tick of a schedule waits.
    """

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as its author wants it. `app`: the app that declares it, None for one that was made by hand."""

    name: str
    rule: TickRule
    job: JobSpec
    missed: Missed = Missed.ONCE
    catch_up: int = CATCH_UP
    overlap: Overlap = Overlap.ALLOW
    app: str | None = None


class Fire(msgspec.Struct, frozen=True):
    """The decision on one tick: `open` has a job that may be live, `closed` one that ended."""

    fire_at: datetime
    fired_at: datetime
    state: Literal["open", "closed", "waiting", "skipped"]
    job_id: int | None = None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as the store has it. Ticks up to `decided_until` are done with; `now` is PostgreSQL's time at the look."""

    plan: Plan
    revision: int
    anchor: datetime
    decided_until: datetime
    now: datetime
    created_at: datetime
    changed_at: datetime
    paused_at: datetime | None = None
    paused_by: str | None = None
    fires: list[Fire] = []

    def coming(self) -> Iterator[datetime]:
        """Yield the coming ticks."""
        return self.plan.rule.after(max(self.decided_until, self.now), self.anchor)


class Edition(NamedTuple):
    """One revision of a schedule, valid until its next change."""

    name: str
    revision: int


class Mark(NamedTuple):
    """A position in the order of all ticks."""

    schedule: str
    fire_at: datetime


#: Before every tick.
START = Mark("", datetime.min.replace(tzinfo=UTC))


class Due(msgspec.Struct, frozen=True):
    """A schedule whose next tick has come, or that has none yet."""

    name: str
    rule: TickRule
    missed: Missed
    catch_up: int
    revision: int
    anchor: datetime
    decided_until: datetime

    @property
    def edition(self) -> Edition:
        """The revision of the schedule that this is computed from."""
        return Edition(self.name, self.revision)


class Decision(msgspec.Struct, frozen=True):
    """The decision for a due schedule: the ticks that fire, and the next one. Valid while the schedule is unchanged."""

    name: str
    revision: int
    decided_until: datetime
    fires: list[datetime]
    until: datetime
    next_at: datetime

    @property
    def edition(self) -> Edition:
        """The revision of the schedule that this is computed from."""
        return Edition(self.name, self.revision)


def decide(due: Due, now: datetime) -> Decision:
    """Decide which of the ticks up to `now` fire: all within the grace, and of missed ones those that the policy says.

    Raises ValueError if this process does not know the zone or the expression, or if there is no next tick.
    """
    most = _MOST_ON_TIME + (due.catch_up if due.missed is Missed.ALL else 1)
    ticks = due.rule.latest(due.decided_until, now, due.anchor, most)
    on_time = [tick for tick in ticks if tick >= now - GRACE]
    fires = _caught_up(due, ticks[: len(ticks) - len(on_time)], on_time) + on_time
    until = max(now, due.decided_until)
    coming = next(due.rule.after(until, due.anchor), None)
    if coming is None:
        raise ValueError("never fires again")
    return Decision(due.name, due.revision, due.decided_until, fires, until, coming)


def _caught_up(due: Due, missed: list[datetime], on_time: list[datetime]) -> list[datetime]:
    match due.missed:
        case Missed.SKIP:
            return []
        case Missed.ONCE:
            return [] if on_time else missed[-1:]
        case Missed.ALL:
            return missed[-due.catch_up :]
