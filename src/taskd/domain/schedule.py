"""A schedule: when what is submitted, and what becomes of ticks that were missed or come too soon."""

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
#: With how many of them it catches up if nobody says.
CATCH_UP = 10
#: The most ticks within the grace: one a second, and both ends.
_MOST_ON_TIME = int(GRACE.total_seconds()) + 1


class Missed(StrEnum):
    """What becomes of missed ticks: nothing; one job for all of them; a job for each of the latest ones."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a tick while an earlier job of the schedule is live: a job all the same; nothing; a job afterwards, and
    one at most waits."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as somebody wants it. `app` is the app whose declaration it is, None for one that was made by hand."""

    name: str
    rule: TickRule
    job: JobSpec
    missed: Missed = Missed.ONCE
    catch_up: int = CATCH_UP
    overlap: Overlap = Overlap.ALLOW
    app: str | None = None


class Fire(msgspec.Struct, frozen=True):
    """What became of one tick: `open` has a job that may be live, `closed` one that ended."""

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
        """The ticks to come."""
        return self.plan.rule.after(max(self.decided_until, self.now), self.anchor)


class Edition(NamedTuple):
    """A schedule as it is until somebody changes it."""

    name: str
    revision: int


class Mark(NamedTuple):
    """How far one has come in the order of all ticks."""

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
        """What it was worked out from."""
        return Edition(self.name, self.revision)


class Decision(msgspec.Struct, frozen=True):
    """What follows for one that was due: the ticks that fire, and the next one. It holds if the schedule is still as it was."""

    name: str
    revision: int
    decided_until: datetime
    fires: list[datetime]
    until: datetime
    next_at: datetime

    @property
    def edition(self) -> Edition:
        """What it was worked out from."""
        return Edition(self.name, self.revision)


def decide(due: Due, now: datetime) -> Decision:
    """Which of the ticks up to `now` fire, by the policy for missed ones. Those within the grace all do.

    Raises ValueError if it cannot be told, because zone or expression is not known here, or if there is no next tick.
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
