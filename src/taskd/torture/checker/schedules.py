"""I16: each tick of a schedule, compared with the jobs that it made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise, takewhile
from typing import NamedTuple

from taskd.domain.schedule import GRACE, Overlap
from taskd.domain.ticks import TickRule
from taskd.torture.checker.disturbance import POSTGRES, windows
from taskd.torture.checker.ledger import Ledger
from taskd.torture.checker.moves import FINAL
from taskd.torture.history import FireRow, History, JobRow, ScheduleRow

#: Seconds. A tick at the very moment in which its schedule is made may belong to it or not.
MOMENT = 0.01
#: Seconds within which one statement decides all its ticks.
TOGETHER = 1.0
#: Seconds. A tick that is decided while an earlier job ends may be skipped because of it.
JUDGED = 2.0
#: Seconds between the calculation of a tick and its firing; a later tick counts as caught up with.
ON_ITS_WAY = 10.0
LATE = GRACE.total_seconds()


class Life(NamedTuple):
    """The time for which a job was live."""

    since: float
    until: float
    job_id: int
    tick: float


def check(history: History, ledger: Ledger) -> None:
    """Check each tick that made a job, and each that should have made one."""
    made = _made(history)
    for (name, tick), rows in made.items():
        ledger.count("I16")
        message = f"the tick {_time(tick)} of {name!r} made {len(rows)} jobs: {sorted(row.id for row in rows)}"
        ledger.require("I16", min(row.id for row in rows), len(rows) == 1, message)
        for row in rows:
            early = f"the tick {_time(tick)} of {name!r} made a job {tick - row.created_at:.3f} s before its time"
            ledger.require("I16", row.id, row.created_at >= tick, early)
    fires = _fires(history)
    _check_rows(history, made, fires, ledger)
    for schedule in history.schedules:
        if schedule.unchanged:
            ticks = {tick: fire for (name, tick), fire in fires.items() if name == schedule.name}
            lives = [_life(history, rows[0], tick) for (name, tick), rows in made.items() if name == schedule.name]
            _check_lost(ledger, schedule, ticks)
            _check_caught_up(ledger, schedule, ticks)
            if schedule.overlap != Overlap.ALLOW:
                _check_overlap(ledger, schedule, lives)
                _check_skipped(history, ledger, ticks, lives)


def _made(history: History) -> dict[tuple[str, float], list[JobRow]]:
    """Return the jobs of each tick by the jobs' metadata. Jobs without a known schedule and retries by hand are left out."""
    known = {schedule.name for schedule in history.schedules} | {fire.schedule for fire in history.fires}
    made: dict[tuple[str, float], list[JobRow]] = defaultdict(list)
    for row in history.row_of.values():
        if row.schedule in known and row.schedule is not None and row.tick is not None and row.parent_id is None:
            made[row.schedule, round(row.tick, 3)].append(row)
    return dict(made)


def _fires(history: History) -> dict[tuple[str, float], FireRow]:
    return {(fire.schedule, round(fire.fire_at, 3)): fire for fire in history.fires}


def _check_rows(
    history: History,
    made: dict[tuple[str, float], list[JobRow]],
    fires: dict[tuple[str, float], FireRow],
    ledger: Ledger,
) -> None:
    """Check that the ticks' jobs and the jobs' ticks agree."""
    for (name, tick), rows in made.items():
        fire = fires.get((name, tick))
        for row in rows:
            known = fire is not None and fire.job_id is not None and _first(history, fire.job_id) == row.id
            ledger.require("I16", row.id, known, f"the tick {_time(tick)} of {name!r} does not know this job")
    for (name, tick), fire in fires.items():
        if fire.job_id is not None:
            there = any(row.id == _first(history, fire.job_id) for row in made.get((name, tick), []))
            ledger.require("I16", fire.job_id, there, f"the tick {_time(tick)} of {name!r} says that it made this job")


def _first(history: History, job_id: int) -> int:
    """Return the first job of a chain of retries by hand: the tick has the last one."""
    row = history.row_of.get(job_id)
    return job_id if row is None or row.parent_id is None else _first(history, row.parent_id)


# ---------------------------------------------------------------- no tick is lost


def _check_lost(ledger: Ledger, schedule: ScheduleRow, fires: dict[float, FireRow]) -> None:
    for tick in _expected(schedule):
        ledger.count("I16")
        if tick not in fires and not _was_missed(schedule, tick, fires):
            ledger.report("I16", None, f"the tick {_time(tick)} of {schedule.name!r} was lost")


def _expected(schedule: ScheduleRow) -> Iterator[float]:
    rule = TickRule(cron=schedule.cron, every=schedule.every, tz=schedule.tz)
    ticks = rule.after(_moment(schedule.created_at + MOMENT), _moment(schedule.anchor))
    until = _moment(schedule.decided_until)
    return (round(tick.timestamp(), 3) for tick in takewhile(lambda tick: tick <= until, ticks))


def _was_missed(schedule: ScheduleRow, tick: float, fires: dict[float, FireRow]) -> bool:
    """Return True if the tick came while no leader could fire it, and the schedule's policy leaves it out."""
    decided = min((fire.fired_at for at, fire in fires.items() if at > tick), default=schedule.decided_until)
    if decided - tick <= LATE:
        return False
    if schedule.missed != "all":
        return True
    return len([at for at in _late(fires, decided) if at > tick]) >= schedule.catch_up


def _late(fires: dict[float, FireRow], decided: float) -> list[float]:
    """Return the missed ticks that were decided at that time."""
    return [at for at, fire in fires.items() if abs(fire.fired_at - decided) <= TOGETHER and fire.fired_at - at > LATE]


def _check_caught_up(ledger: Ledger, schedule: ScheduleRow, fires: dict[float, FireRow]) -> None:
    """Check that no more missed ticks were caught up with than the policy allows.

    If ticks wait for jobs, a late tick proves nothing.
    """
    if schedule.overlap != Overlap.ALLOW:
        return
    most = {"skip": 0, "once": 1, "all": schedule.catch_up}[schedule.missed]
    late = sorted(fire.fired_at for at, fire in fires.items() if fire.fired_at - at > LATE + ON_ITS_WAY)
    together = 0
    for number, moment in enumerate(late):
        together = together + 1 if number and moment - late[number - 1] <= TOGETHER else 1
        if together == most + 1:
            message = f"{schedule.name!r} caught up with more than {most} missed ticks ({schedule.missed})"
            ledger.report("I16", None, message)


# ---------------------------------------------------------------- overlap


def _check_overlap(ledger: Ledger, schedule: ScheduleRow, lives: list[Life]) -> None:
    for before, after in pairwise(sorted(lives)):
        message = (
            f"{schedule.name!r} ({schedule.overlap}) made it while job {before.job_id} was live, "
            f"{before.until - after.since:.3f} s before that one's end"
        )
        ledger.require("I16", after.job_id, before.until < after.since, message)


def _check_skipped(history: History, ledger: Ledger, fires: dict[float, FireRow], lives: list[Life]) -> None:
    """Check that each skipped tick had a live job or an outage as its reason."""
    outages = windows(history, POSTGRES)
    waiting = [at for at, fire in fires.items() if fire.state == "waiting"]
    for tick, fire in fires.items():
        if fire.state != "skipped":
            continue
        since, until = fire.fired_at - JUDGED, fire.fired_at + JUDGED
        busy = any(life.tick < tick and life.since <= until and since <= life.until for life in lives)
        held_up = any(outage.touches(since, until) for outage in outages)
        reason = busy or held_up or any(at < tick for at in waiting)
        message = f"the tick {_time(tick)} of {fire.schedule!r} was skipped, and no job of the schedule was live"
        ledger.require("I16", None, reason, message)


def _life(history: History, row: JobRow, tick: float) -> Life:
    events = history.events_of.get(row.id, [])
    since = events[0].at if events else row.created_at
    until = next((event.at for event in events if event.to_status in FINAL), float("inf"))
    return Life(since, until, row.id, tick)


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _time(at: float) -> str:
    return _moment(at).strftime("%H:%M:%S.%f")[:-3]
