"""Test schedules in PostgreSQL: each tick makes one job under any leader; missed ticks, overlap, pauses and changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from taskd.domain.errors import NotLeader
from taskd.domain.fencing import Term
from taskd.domain.job import JobFilter, JobSpec
from taskd.domain.outcome import Failed, Outcome
from taskd.domain.policy import Backoff
from taskd.domain.schedule import START, Decision, Edition, Missed, Overlap, Plan, decide
from taskd.domain.ticks import TickRule
from taskd.runtime.outage import Outage
from taskd.scheduler import fire_pruner
from taskd.scheduler.firer import Firer
from taskd.seams import Fired
from taskd.store.statements import statement
from tests.integration.storage import DONE, Storage, spec
from tests.servers import wait_until_async

NAME = "report"
HOURLY = TickRule(every=3600.0)
#: The result of a firing that decides nothing.
LEFT = Fired(0, 0, 0, (Edition(NAME, 1),))


def plan(rule: TickRule = HOURLY, name: str = NAME, **more: Any) -> Plan:
    return Plan(name=name, rule=rule, **({"job": spec('{"n":1}', task="report", queue="reports")} | more))


def full_job(payload: str, metadata: dict[str, object]) -> JobSpec:
    """Return a job without default values."""
    backoff = Backoff(2.0, 3.0, 4.0, False)
    fields: dict[str, Any] = {
        "priority": 7,
        "max_retries": 2,
        "retry_backoff": backoff,
        "timeout": 9.5,
        "metadata": metadata,
    }
    return spec(payload, task="report", queue="reports", **fields)


async def behind(store: Storage, name: str = NAME, *, anchor: float = 3601, decided: float = 10) -> datetime:
    """Set the anchor and the last decision of an interval to so many seconds ago; return the anchor."""
    ((anchored_at,),) = await store.raw.fetch(
        "UPDATE taskd.schedules SET next_at = NULL, anchor = clock_timestamp() - make_interval(secs => %(anchor)s),"
        " decided_until = clock_timestamp() - make_interval(secs => %(decided)s) WHERE name = %(name)s RETURNING anchor",
        {"anchor": anchor, "decided": decided, "name": name},
    )
    assert isinstance(anchored_at, datetime)
    return anchored_at


async def decisions(store: Storage) -> list[Decision]:
    look = await store.ticks.due(100, ())
    return [decide(due, look.now) for due in look.due]


async def fire(store: Storage, term: Term) -> Fired:
    return await store.ticks.fire(term, await decisions(store))


async def fired_at(store: Storage) -> list[datetime]:
    """Return the ticks of the existing jobs, from their metadata."""
    rows = await store.raw.fetch(
        "SELECT (metadata->>'fire_at')::timestamptz FROM taskd.jobs WHERE metadata->>'schedule' = %(name)s ORDER BY id",
        {"name": NAME},
    )
    return [row[0] for row in rows]


async def states(store: Storage) -> list[str]:
    schedule = await store.schedules.one(NAME)
    assert schedule is not None
    return [fire.state for fire in reversed(schedule.fires)]


async def test_a_schedule_is_kept_as_it_was_given(store: Storage) -> None:
    job = full_job('{"n":[1,null]}', {"team": "a", "n": 1})
    given = plan(
        TickRule(cron="0 6 * * MON", tz="Europe/Berlin"),
        job=job,
        missed=Missed.ALL,
        catch_up=7,
        overlap=Overlap.QUEUE,
        app="shop.tasks",
    )
    assert await store.schedules.put(given, replace=False) is True
    schedule = await store.schedules.one(NAME)
    assert schedule is not None
    assert schedule.plan == given
    assert (await store.schedules.page("", None, 10))[0][0].plan == given
    assert await store.schedules.page(NAME, None, 10) == ([], False)
    assert await store.schedules.page("", {"default"}, 10) == ([], False)


async def test_a_fired_job_is_like_a_submitted_one_and_says_which_tick_it_is(store: Storage) -> None:
    job = full_job("null", {"team": "a"})
    await store.schedules.put(plan(job=job), replace=False)
    (submitted,) = await store.submit(job)
    tick_at = await behind(store) + timedelta(hours=1)
    assert await fire(store, await store.lead()) == Fired(1, 0, 0)
    schedule = await store.schedules.one(NAME)
    assert schedule is not None
    (tick,) = schedule.fires
    assert (tick.fire_at, tick.state) == (tick_at, "open")
    assert tick.job_id is not None
    fired, like = await store.job(tick.job_id), await store.job(submitted.id)
    assert fired.metadata is not None
    fire_at = str(fired.metadata["fire_at"])
    assert fired.metadata == {"team": "a", "schedule": NAME, "fire_at": fire_at}
    assert (datetime.fromisoformat(fire_at), fire_at[-1]) == (tick_at, "Z")
    assert fired.created_at == fired.schedule_at == tick.fired_at
    same = {"id": 0, "metadata": None, "created_at": tick_at, "schedule_at": tick_at}
    assert msgspec.structs.replace(fired, **same) == msgspec.structs.replace(like, **same)
    backoffs = await store.raw.fetch("SELECT DISTINCT backoff::text FROM taskd.jobs")
    assert len(backoffs) == 1


async def test_an_old_term_fires_nothing(store: Storage) -> None:
    await store.schedules.put(plan(overlap=Overlap.QUEUE), replace=False)
    await behind(store)
    old = await store.lead()
    due = await decisions(store)
    await store.lead()
    for writing in (
        store.ticks.rework(old),
        store.ticks.fire(old, due),
        store.ticks.fire_waiting(old, 10),
        store.ticks.close(old, START, 10),
        store.ticks.forget(old, 0.0, 10),
    ):
        with pytest.raises(NotLeader):
            await writing
    assert await fired_at(store) == []
    assert [decision.fires for decision in await decisions(store)] == [decision.fires for decision in due]


async def test_two_who_think_they_lead_fire_each_tick_once(store: Storage) -> None:
    """Test two equal decisions at once, as of a leader whose abandoned first call still runs."""
    other = Storage(store.dsn)
    names = [f"s{n}" for n in range(50)]
    for name in names:
        await store.schedules.put(plan(name=name), replace=False)
        await behind(store, name)
    term = await store.lead()
    due = await decisions(store)
    results = await asyncio.gather(*(leader.ticks.fire(term, due) for leader in (store, other, store, other)))
    await other.close()
    assert sum(result.jobs for result in results) == 50
    ((jobs,),) = await store.raw.fetch("SELECT count(*) FROM taskd.jobs")
    assert jobs == 50


async def test_a_tick_that_has_its_row_makes_no_second_job_whatever_is_decided(store: Storage) -> None:
    await store.schedules.put(plan(), replace=False)
    term = await store.lead()
    anchor = await behind(store)
    (due,) = await decisions(store)
    await store.ticks.fire(term, [due])
    await store.schedules.remove(NAME)  # the new one of this name might repeat the ticks of the first one
    await store.schedules.put(plan(), replace=False)
    await behind(store)
    (again,) = await decisions(store)
    again = msgspec.structs.replace(again, fires=due.fires)
    assert due.fires == [anchor + timedelta(hours=1)]
    assert await store.ticks.fire(term, [again]) == Fired(0, 0, 0)
    assert await fired_at(store) == due.fires


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"missed": Missed.SKIP}, []),
        ({"missed": Missed.ONCE}, [5]),
        ({"missed": Missed.ALL, "catch_up": 3}, [3, 4, 5]),
    ],
    ids=["skip", "once", "all"],
)
async def test_missed_ticks_go_by_the_policy(store: Storage, policy: dict[str, Any], expected: list[int]) -> None:
    await store.schedules.put(plan(**policy), replace=False)
    anchor = await behind(store, anchor=5.5 * 3600, decided=5.4 * 3600)
    assert (await fire(store, await store.lead())).jobs == len(expected)
    assert await fired_at(store) == [anchor + timedelta(hours=n) for n in expected]
    assert await decisions(store) == []
    look = await store.ticks.due(10, ())
    assert 1000 < (look.next_in or 0) <= 1800


async def end_jobs(store: Storage, term: Term, outcome: Outcome = DONE, jobs: int = 100) -> None:
    """Run the due jobs, at most `jobs`, to their end."""
    session = await store.work(queues=("reports",))
    claims = await store.claim(session, await store.dispatch(term, jobs, queue="reports"))
    assert claims
    await store.settle(claims, outcome)
    await store.sessions.end(session.id)


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        (Overlap.ALLOW, Fired(3, 0, 0)),
        (Overlap.SKIP, Fired(1, 0, 2)),
        (Overlap.QUEUE, Fired(1, 1, 1)),
    ],
)
async def test_ticks_that_come_together_go_by_the_policy_for_overlap(
    store: Storage, overlap: Overlap, expected: Fired
) -> None:
    await store.schedules.put(plan(TickRule(every=15.0), overlap=overlap), replace=False)
    await behind(store, anchor=50, decided=50)
    assert await fire(store, await store.lead()) == expected


@pytest.mark.parametrize(
    ("overlap", "while_live", "afterwards"),
    [
        (Overlap.ALLOW, "open", 1),
        (Overlap.SKIP, "skipped", 1),
        (Overlap.QUEUE, "waiting", 0),  # only one tick waits
    ],
)
async def test_a_tick_meets_a_live_job(store: Storage, overlap: Overlap, while_live: str, afterwards: int) -> None:
    await store.schedules.put(plan(overlap=overlap), replace=False)
    term = await store.lead()
    for anchor in (3604, 3603):
        await behind(store, anchor=anchor)
        await fire(store, term)
    assert await states(store) == ["open", while_live]
    assert await store.ticks.fire_waiting(term, 10) == 0
    await end_jobs(store, term)
    await behind(store, anchor=3602)
    assert (await fire(store, term)).jobs == afterwards


async def test_a_waiting_tick_gets_its_job_when_the_earlier_one_has_ended_and_only_one_waits(store: Storage) -> None:
    await store.schedules.put(plan(overlap=Overlap.QUEUE), replace=False)
    term = await store.lead()
    for anchor in (3604, 3603, 3602):
        await behind(store, anchor=anchor)
        await fire(store, term)
    assert await states(store) == ["open", "waiting", "skipped"]
    await store.schedules.pause(NAME, "me")
    await end_jobs(store, term)
    assert await store.ticks.fire_waiting(term, 10) == 0
    await store.schedules.resume(NAME)
    assert (await store.ticks.due(10, ())).waiting
    other = Storage(store.dsn)
    assert (
        sum(await asyncio.gather(*(leader.ticks.fire_waiting(term, 10) for leader in (store, other, store, other))))
        == 1
    )
    await other.close()
    assert await states(store) == ["open", "open", "skipped"]
    assert len(await fired_at(store)) == 1
    assert not (await store.ticks.due(10, ())).waiting


async def test_a_policy_that_is_made_stricter_sees_the_jobs_from_before(store: Storage) -> None:
    await store.schedules.put(plan(), replace=False)
    term = await store.lead()
    await behind(store, anchor=3604)
    await fire(store, term)
    assert await store.schedules.put(plan(overlap=Overlap.SKIP), replace=True) is False
    await behind(store, anchor=3603)
    assert await fire(store, term) == Fired(0, 0, 1)


async def test_a_paused_schedule_does_not_fire_and_goes_on_from_where_it_is_resumed(store: Storage) -> None:
    await store.schedules.put(plan(missed=Missed.ALL), replace=False)
    term = await store.lead()
    await behind(store)
    due = await decisions(store)
    await store.schedules.pause(NAME, "ann")
    await store.schedules.pause(NAME, "bob")  # without an effect: ann was first
    schedule = await store.schedules.one(NAME)
    assert schedule is not None
    assert schedule.paused_by == "ann"
    assert await store.ticks.fire(term, due) == LEFT
    assert await decisions(store) == []
    await store.schedules.resume(NAME)
    assert (await fire(store, term)).jobs == 0
    assert await fired_at(store) == []
    assert (await store.ticks.due(10, ())).next_in is not None


async def test_what_was_worked_out_before_a_change_does_not_fire(store: Storage) -> None:
    await store.schedules.put(plan(), replace=False)
    term = await store.lead()
    await behind(store)
    due = await decisions(store)
    assert await store.schedules.put(plan(job=spec("2", task="other")), replace=True) is False
    assert await store.ticks.fire(term, due) == LEFT
    assert (await fire(store, term)).jobs == 1  # the tick is as due as before, with the new job
    (job,) = (await store.overview.jobs(JobFilter(limit=10))).jobs
    assert (job.task, bytes(job.payload)) == ("other", b"2")
    await behind(store, anchor=3603)
    assert await store.schedules.put(plan(TickRule(every=60.0)), replace=True) is False
    assert (await fire(store, term)).jobs == 0  # a changed rule begins at the change
    assert await store.schedules.put(plan(TickRule(every=60.0)), replace=True) is None


async def test_old_ticks_are_forgotten_and_those_of_live_jobs_are_not(store: Storage) -> None:
    await store.schedules.put(plan(), replace=False)
    term = await store.lead()
    await behind(store)
    await fire(store, term)
    assert (await store.ticks.close(term, START, 10)).ticks == 0
    assert await store.ticks.forget(term, -1.0, 10) == 0
    assert await states(store) == ["open"]
    await end_jobs(store, term)
    assert (await store.ticks.close(term, START, 10)).ticks == 1
    assert await store.ticks.forget(term, 3600.0, 10) == 0
    assert await states(store) == ["closed"]
    assert await store.ticks.forget(term, -1.0, 10) == 1
    assert await states(store) == []


async def open_many_ticks(store: Storage, term: Term) -> None:
    """Make seven open ticks with live jobs, and after them one whose job has ended."""
    await store.schedules.put(
        plan(TickRule(every=10.0), "a-busy-one", job=spec(queue="others"), missed=Missed.ALL), replace=False
    )
    await behind(store, "a-busy-one", anchor=75, decided=75)
    await store.schedules.put(plan(), replace=False)
    await behind(store)
    assert (await fire(store, term)).jobs == 8
    await end_jobs(store, term)


async def test_ended_ticks_behind_many_live_ones_are_closed(store: Storage) -> None:
    term = await store.lead()
    await open_many_ticks(store, term)
    mark, pages = START, []
    for _ in range(3):
        page = await store.ticks.close(term, mark, 3)
        mark = page.last
        pages.append((page.ticks, mark.schedule, page.more))
    assert pages == [(0, "a-busy-one", True), (0, "a-busy-one", True), (1, NAME, False)]
    assert await store.ticks.close(term, mark, 3) == (0, mark, False)
    assert await states(store) == ["closed"]


async def test_the_duty_comes_by_every_open_tick(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fire_pruner, "PAGE", 3)
    term = await store.lead()
    await open_many_ticks(store, term)
    running = asyncio.create_task(Firer(store.ticks, postgres=Outage("PostgreSQL"), wake=lambda: None).run(term))
    await wait_until_async(lambda: _are(store, "closed"))
    running.cancel()


async def test_a_tick_that_waits_for_a_schedule_that_is_gone_is_deleted(store: Storage) -> None:
    """Test a tick that is decided during the removal, and invisible to it."""
    await store.schedules.put(plan(), replace=False)
    await store.raw.fetch(
        "INSERT INTO taskd.fires VALUES (%(gone)s, clock_timestamp(), clock_timestamp(), 'waiting'),"
        " (%(name)s, clock_timestamp(), clock_timestamp(), 'waiting')",
        {"gone": "removed", "name": NAME},
    )
    assert await store.ticks.forget(await store.lead(), 3600.0, 10) == 1
    assert await states(store) == ["waiting"]


@asynccontextmanager
async def locked(store: Storage, name: str = NAME) -> AsyncIterator[None]:
    """Lock a schedule's row in another transaction."""
    async with await psycopg.AsyncConnection.connect(store.dsn) as stranger:
        await stranger.execute("UPDATE taskd.schedules SET changed_at = changed_at WHERE name = %s", [name])
        yield
        await stranger.rollback()


async def test_a_locked_schedule_is_left_and_stops_no_other(store: Storage) -> None:
    await store.schedules.put(plan(), replace=False)
    await store.schedules.put(plan(name="other"), replace=False)
    anchor = await behind(store)
    await behind(store, "other")
    term = await store.lead()
    async with locked(store):
        due = await decisions(store)
        assert await store.ticks.fire(term, due) == Fired(1, 0, 0, (Edition(NAME, 1),))
        assert [decision.name for decision in await decisions(store)] == [NAME]
        assert (await store.ticks.due(10, LEFT.left)).due == []
        await store.terms.renew(term, 0)
        assert await fired_at(store) == []
    assert await fire(store, term) == Fired(1, 0, 0)
    assert await store.ticks.fire(term, due) == Fired(0, 0, 0, tuple(decision.edition for decision in due))
    assert await fired_at(store) == [anchor + timedelta(hours=1)]


async def test_what_is_due_goes_before_what_is_only_to_be_worked_out(store: Storage) -> None:
    """Test the beginning of a term, at which every schedule in a time zone may be checked."""
    for name in ("a-new-one", NAME):
        await store.schedules.put(plan(name=name), replace=False)
    await store.raw.fetch(
        "UPDATE taskd.schedules SET next_at = clock_timestamp() WHERE name = %(name)s", {"name": NAME}
    )
    assert [decision.name for decision in (await store.ticks.due(1, ())).due] == [NAME]
    assert [decision.name for decision in (await store.ticks.due(2, ())).due] == [NAME, "a-new-one"]


async def test_a_waiting_tick_of_a_locked_schedule_waits_on(store: Storage) -> None:
    await store.schedules.put(plan(TickRule(every=15.0), overlap=Overlap.QUEUE), replace=False)
    await behind(store, anchor=35, decided=35)
    term = await store.lead()
    assert await fire(store, term) == Fired(1, 1, 0)
    await end_jobs(store, term)
    async with locked(store):
        assert await store.ticks.fire_waiting(term, 10) == 0
        assert await states(store) == ["open", "waiting"]
    assert await store.ticks.fire_waiting(term, 10) == 1


async def test_a_waiting_tick_does_not_wait_any_more_once_its_schedule_allows_several_jobs(store: Storage) -> None:
    term = await store.lead()
    for overlap, jobs in ((Overlap.QUEUE, 0), (Overlap.SKIP, 0), (Overlap.ALLOW, 1)):
        await store.schedules.put(plan(TickRule(every=15.0), overlap=overlap), replace=True)
        if overlap is Overlap.QUEUE:
            await behind(store, anchor=35, decided=35)
            assert await fire(store, term) == Fired(1, 1, 0)
        assert await store.ticks.fire_waiting(term, 10) == jobs
    assert await states(store) == ["open", "open"]


async def failed_tick(store: Storage, term: Term) -> int:
    """Make a tick whose job failed for good; return the job's id."""
    await store.schedules.put(plan(job=spec(queue="reports", max_retries=0), overlap=Overlap.SKIP), replace=False)
    await behind(store, anchor=3604)
    await fire(store, term)
    await end_jobs(store, term, Failed("no luck"))
    return await _job_of(store)


async def _job_of(store: Storage) -> int:
    schedule = await store.schedules.one(NAME)
    assert schedule is not None
    (tick,) = schedule.fires[-1:]
    assert tick.job_id is not None
    return tick.job_id


@pytest.mark.parametrize("closed", [False, True])
async def test_a_job_that_was_retried_by_hand_is_live_for_the_overlap(store: Storage, *, closed: bool) -> None:
    term = await store.lead()
    old = await failed_tick(store, term)
    if closed:
        assert (await store.ticks.close(term, START, 10)).ticks == 1
    retried = await store.retries.retry([old])
    assert await _job_of(store) == retried[old]
    assert await states(store) == ["open"]
    await behind(store, anchor=3603)
    assert await fire(store, term) == Fired(0, 0, 1)
    await end_jobs(store, term, Failed("no luck"))
    again = await store.retries.retry([retried[old]])
    assert await _job_of(store) == again[retried[old]]
    await end_jobs(store, term)
    await behind(store, anchor=3602)
    assert await fire(store, term) == Fired(1, 0, 0)


async def test_a_tick_whose_job_is_retried_while_ticks_are_closed_stays_open(store: Storage) -> None:
    """Test a closing that has seen the old job's end and then finds the tick locked."""
    term = await store.lead()
    old = await failed_tick(store, term)
    async with await psycopg.AsyncConnection.connect(store.dsn) as stranger:
        await stranger.execute(statement("retry").encode(), {"ids": f"{{{old}}}"})
        assert await store.ticks.close(term, START, 10) == (0, (NAME, (await _ticks(store))[0]), False)
        assert await store.ticks.forget(term, -1.0, 10) == 0
        await stranger.commit()
    assert await states(store) == ["open"]
    assert await _job_of(store) != old


async def test_what_a_client_writes_into_metadata_moves_no_tick(store: Storage) -> None:
    term = await store.lead()
    old = await failed_tick(store, term)
    (tick,) = await _ticks(store)
    for fire_at in (tick.isoformat(), "never", "2026-99-99T00:00:00Z"):
        (forged,) = await store.submit(spec(queue="reports", metadata={"schedule": NAME, "fire_at": fire_at}))
        await store.cancels.cancel([forged.id])
        assert (await store.retries.retry([forged.id])).keys() == {forged.id}
        assert await _job_of(store) == old


async def _ticks(store: Storage) -> list[datetime]:
    schedule = await store.schedules.one(NAME)
    assert schedule is not None
    return [fire.fire_at for fire in schedule.fires]


async def test_a_new_term_works_out_anew_what_depends_on_the_rules_of_a_time_zone(store: Storage) -> None:
    """Test it with older time zone data that put the next tick into next year."""
    for name, rule in (
        ("here", TickRule(cron="* * * * * *")),
        (NAME, TickRule(cron="* * * * * *", tz="Europe/Berlin")),
    ):
        await store.schedules.put(plan(rule, name), replace=False)
    await store.raw.fetch("UPDATE taskd.schedules SET next_at = clock_timestamp() + interval '1 year'")
    term = await store.lead()
    async with locked(store):
        await store.ticks.rework(term)
    assert await decisions(store) == []
    running = asyncio.create_task(Firer(store.ticks, postgres=Outage("PostgreSQL"), wake=lambda: None).run(term))
    await wait_until_async(lambda: fired_at(store))
    running.cancel()
    assert (await store.raw.fetch("SELECT count(*) FROM taskd.fires WHERE schedule = 'here'")) == [(0,)]


async def test_the_duty_fires_wakes_at_a_change_and_ends_with_its_term(store: Storage) -> None:
    rung: list[None] = []
    cron = Firer(store.ticks, postgres=Outage("PostgreSQL"), wake=lambda: rung.append(None))
    term = await store.lead()
    running = asyncio.create_task(cron.run(term))
    await store.schedules.put(plan(TickRule(cron="* * * * * *"), overlap=Overlap.QUEUE), replace=False)
    cron.changed()
    await wait_until_async(lambda: _are(store, "waiting"))
    await end_jobs(store, term)
    await wait_until_async(lambda: asyncio.sleep(0, cron.fired >= 2))
    assert len(rung) == 2
    ticks = await fired_at(store)
    assert all(tick.microsecond == 0 for tick in ticks)
    await store.lead()
    with pytest.raises(NotLeader):
        await running


async def _are(store: Storage, state: str) -> bool:
    """Return True if a tick of the schedule is in that state."""
    return state in await states(store)


@pytest.mark.parametrize(
    "rule", [TickRule(cron="* * * * *", tz="Mars/Olympus"), TickRule(cron="* * 31W * *")], ids=["zone", "cron"]
)
async def test_a_schedule_that_cannot_be_worked_out_stops_no_other_and_is_repaired_by_a_change(
    store: Storage, rule: TickRule
) -> None:
    """Test it with a time zone that another version or another machine accepted."""
    await store.schedules.put(plan(), replace=False)
    await store.schedules.put(plan(rule, "a-broken-one"), replace=False)
    await behind(store)
    cron = Firer(store.ticks, postgres=Outage("PostgreSQL"), wake=lambda: None)
    running = asyncio.create_task(cron.run(await store.lead()))
    await wait_until_async(lambda: asyncio.sleep(0, cron.fired == 1))
    await store.schedules.put(plan(TickRule(every=1.0), "a-broken-one"), replace=True)
    await wait_until_async(lambda: asyncio.sleep(0, cron.fired > 1))
    running.cancel()


async def test_a_schedule_of_another_queue_is_left_alone_whatever_was_read_before(store: Storage) -> None:
    """Test that the statement itself checks the queue, since the schedule may have changed after an earlier read."""
    mine = plan(job=spec(queue="reports"))
    assert await store.schedules.put(mine, replace=True, queues={"reports"}) is True
    other_queue = plan(job=spec(queue="images"))
    assert await store.schedules.put(other_queue, replace=True, queues={"images"}) is None
    await store.schedules.pause(NAME, "other", {"images"})
    assert await store.schedules.remove(NAME, {"images"}) is False
    schedule = await store.schedules.one(NAME)
    assert schedule is not None
    assert (schedule.plan, schedule.paused_at, schedule.revision) == (mine, None, 1)
    await store.schedules.pause(NAME, "me", {"reports", "images"})
    await store.schedules.resume(NAME, {"images"})
    schedule = await store.schedules.one(NAME)
    assert schedule is not None
    assert schedule.paused_by == "me"
    assert await store.schedules.put(other_queue, replace=True, queues={"reports", "images"}) is False
    assert await store.schedules.remove(NAME, {"images"}) is True
