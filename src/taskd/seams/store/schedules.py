"""The store's schedules: the leader fires them, the API changes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from taskd.domain.fencing import Term
from taskd.domain.schedule import Decision, Due, Edition, Mark, Plan, Schedule


class DueSchedules(NamedTuple):
    """The schedules that are due `now`, by PostgreSQL's clock.

    `next_in` is the seconds until the next one (None: there is none). `waiting` is True if a tick waits for an earlier job,
    `some` if there are schedules at all.
    """

    now: datetime
    due: list[Due]
    next_in: float | None
    waiting: bool
    some: bool


class Fired(NamedTuple):
    """The numbers of ticks that got a job, that wait for an earlier job, and that were skipped because of one.

    `left` are the schedules without a decision: they were changed meanwhile, or are locked.
    """

    jobs: int
    waiting: int
    skipped: int
    left: tuple[Edition, ...] = ()


class Closed(NamedTuple):
    """The number of ticks of a page that were closed, the last tick of the page, and whether there may be `more` behind it."""

    ticks: int
    last: Mark
    more: bool


class Ticks(Protocol):
    """Fires schedules, for the leader of shard 0. A write never waits for a row that is locked: it leaves the row out."""

    async def due(self, limit: int, without: Collection[Edition]) -> DueSchedules:
        """Return schedules whose next tick has come or is not worked out yet, but for those of `without`. Writes nothing."""
        ...

    async def rework(self, term: Term) -> None:
        """Have the next ticks of schedules in time zones worked out anew, as zones change. Raises NotLeader."""
        ...

    async def fire(self, term: Term, decisions: Sequence[Decision]) -> Fired:
        """Make the jobs of ticks that were not decided before, durably, each once. Raises NotLeader.

        A schedule that was changed meanwhile is left alone.
        """
        ...

    async def fire_waiting(self, term: Term, limit: int) -> int:
        """Make the jobs of waiting ticks whose schedule has no live job any more; return their number. Raises NotLeader."""
        ...

    async def close(self, term: Term, after: Mark, limit: int) -> Closed:
        """Close those of a page of open ticks whose jobs have ended. Raises NotLeader."""
        ...

    async def forget(self, term: Term, keep: float, limit: int) -> int:
        """Delete a page of ticks that are over; return their number. Raises NotLeader.

        These are ticks that were decided more than `keep` seconds ago, and waiting ones whose schedule is gone.
        """
        ...


class Schedules(Protocol):
    """Reads and changes schedules, for the API: those of the given `queues` only (None: of all)."""

    async def page(self, after: str, queues: Collection[str] | None, limit: int) -> tuple[list[Schedule], bool]:
        """Return the schedules with names later than `after`, by name, and whether there are more."""
        ...

    async def one(self, name: str) -> Schedule | None:
        """Return one schedule with its last ticks; None if there is none."""
        ...

    async def put(self, plan: Plan, *, replace: bool, queues: Collection[str] | None = None) -> bool | None:
        """Store a schedule; return True if it is new, False if it replaced another one of its name.

        Returns None if nothing was stored: the one of that name may not be replaced, is of another queue, or is the same.
        """
        ...

    async def remove(self, name: str, queues: Collection[str] | None = None) -> bool:
        """Remove one; return False if there is none."""
        ...

    async def pause(self, name: str, who: str, queues: Collection[str] | None = None) -> None:
        """Stop one, unless it is stopped; `who` is the name that the schedule shows for that."""
        ...

    async def resume(self, name: str, queues: Collection[str] | None = None) -> None:
        """Let one go on from now, if it is stopped."""
        ...
