"""Test notes of running attempts: progress, checkpoints and snoozes."""

from __future__ import annotations

import asyncio
import json

import psycopg
import pytest
from msgspec import Raw

from taskd.domain.fencing import Claim, Term
from taskd.domain.job import JobFilter, JobStatus
from taskd.domain.outcome import Crashed, Failed, Outcome, Released, Snoozed
from taskd.domain.retry import decide
from taskd.seams import Settlement
from taskd.store.statements import statement
from tests.integration.storage import DONE, Storage
from tests.servers import wait_until_async

HALF = b'{"fraction":0.5}'
LEFT = "SELECT count(*) FROM taskd.notes"
#: The limit at which a job that loses its worker fails for good.
SUSPECTED = "UPDATE taskd.jobs SET losses = 2 RETURNING id"


async def end(store: Storage, claim: Claim, outcome: Outcome, progress: bytes | None = None) -> bool:
    """Settle as a worker does that has received a note."""
    verdict = decide(outcome, claim.policy, claim.record)
    return bool(await store.claims.settle([Settlement(claim, outcome, verdict, noted=True, progress=progress)]))


async def due_now(store: Storage) -> None:
    await store.raw.fetch("UPDATE taskd.jobs SET schedule_at = now() WHERE status = 'pending'")


async def test_the_latest_progress_is_shown_and_goes_to_history(store: Storage, term: Term) -> None:
    session = await store.work()
    claim = await store.begun(term, session)
    assert (await store.job(claim.job_id)).progress is None
    assert await store.note(claim, progress=b'{"fraction":0.1}')
    assert await store.note(claim, progress=HALF)
    assert (await store.job(claim.job_id)).progress == Raw(HALF)
    (listed,) = (await store.overview.jobs(JobFilter())).jobs
    assert listed.progress == Raw(HALF)
    assert await end(store, claim, DONE)
    assert (await store.job(claim.job_id)).progress == Raw(HALF)
    assert await store.raw.fetch(LEFT) == [(0,)]

    last = await store.begun(term, session)
    assert await end(store, last, DONE, progress=b'{"fraction":1.0}')
    assert (await store.job(last.job_id)).progress == Raw(b'{"fraction":1.0}')


async def test_a_checkpoint_survives_failures_crashes_and_releases_and_ends_with_the_job(
    store: Storage, term: Term
) -> None:
    session = await store.work()
    claim = await store.begun(term, session)
    assert claim.checkpoint is None
    outcomes: list[Outcome] = [Failed("x"), Crashed("x"), Released("x"), Snoozed(0.0), Released("x")]
    for number, outcome in enumerate(outcomes, 1):
        text = json.dumps({"row": number}).encode()
        assert await store.note(claim, checkpoint=text if number < 5 else b"null")
        assert await end(store, claim, outcome)
        await due_now(store)
        (claim,) = await store.claim(session, await store.dispatch(term))
        assert claim.checkpoint == (text if number < 5 else b"null")
    assert await end(store, claim, DONE)
    assert await store.raw.fetch(LEFT) == [(0,)]
    assert (await store.job(claim.job_id)).progress is None


async def test_a_reaped_attempt_writes_no_note_and_its_successor_has_the_checkpoint(store: Storage, term: Term) -> None:
    session, live = await store.work(ttl=0.0), await store.work("worker-2")
    await store.sessions.heartbeat(session, 5.0, [])
    zombie = await store.begun(term, session)
    assert await store.note(zombie, progress=HALF, checkpoint=b"1")
    await store.sessions.heartbeat(session, 0.0, [])
    assert await store.expire(term) == ["worker-1"]
    assert (await store.upkeep.free_jobs(term, 3)).restarted == 1
    assert not await store.note(zombie, progress=b"{}", checkpoint=b"2")

    (claim,) = await store.claim(live, await store.dispatch(term))
    assert claim.checkpoint == b"1"
    assert not await store.note(zombie, progress=b"{}", checkpoint=b"2")
    assert (await store.job(claim.job_id)).progress == Raw(HALF)
    assert await store.note(claim, checkpoint=b"3")
    assert not await store.note(zombie, checkpoint=b"4")
    assert await end(store, claim, Released("x"))
    (claim,) = await store.claim(live, await store.dispatch(term))
    assert claim.checkpoint == b"3"


async def test_a_job_that_is_cancelled_or_loses_too_many_workers_keeps_its_progress_and_nothing_else(
    store: Storage, term: Term
) -> None:
    session = await store.work()
    cancelled, hopeless = await store.begun(term, session), await store.begun(term, session)
    for claim in (cancelled, hopeless):
        assert await store.note(claim, progress=HALF, checkpoint=b"1")
    assert await store.cancels.cancel([cancelled.job_id]) == {cancelled.job_id}
    await store.raw.fetch(SUSPECTED)
    await store.sessions.end(session.id)
    assert (await store.upkeep.free_jobs(term, 1)).failed == 1
    for claim in (cancelled, hopeless):
        assert (await store.job(claim.job_id)).progress == Raw(HALF)
        assert not await store.note(claim, progress=b"{}", checkpoint=b"2")
    assert await store.raw.fetch(LEFT) == [(0,)]


@pytest.mark.parametrize("ending", ["settle", "cancel", "reap"])
async def test_an_end_that_waits_for_a_note_is_an_end_all_the_same(store: Storage, term: Term, ending: str) -> None:
    session = await store.work()
    claim = await store.begun(term, session)
    await store.raw.fetch(SUSPECTED)
    note = {"id": claim.job_id, "attempt": claim.attempt, "session": str(session.id), "progress": HALF.decode()}
    async with await psycopg.AsyncConnection.connect(store.dsn) as writer:
        await writer.execute(statement("note").encode(), {"notes": json.dumps([note])})
        if ending == "settle":
            waiting = asyncio.ensure_future(end(store, claim, DONE, HALF))
        elif ending == "cancel":
            waiting = asyncio.ensure_future(store.cancels.cancel([claim.job_id]))  # type: ignore[arg-type]  # only its truth counts
        else:
            await store.sessions.end(session.id)
            waiting = asyncio.ensure_future(store.upkeep.free_jobs(term, 1))  # type: ignore[arg-type]  # as above
        await wait_until_async(lambda: waits(store))
        await writer.commit()
        assert await waiting
    assert (await store.job(claim.job_id)).status.final
    await store.upkeep.forget_notes(Term(term.epoch - 1, term.holder))
    assert await store.raw.fetch(LEFT) == [(1,)]  # it was written while the end waited, and is invisible to it
    await store.upkeep.forget_notes(term)
    assert await store.raw.fetch(LEFT) == [(0,)]


def waits(store: Storage) -> bool:
    """Return True if a statement waits for a lock."""
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ).fetchone()
    return rows is not None and rows[0] > 0


async def test_the_notes_of_live_jobs_are_not_forgotten(store: Storage, term: Term) -> None:
    claim = await store.begun(term, await store.work())
    assert await store.note(claim, checkpoint=b"1")
    await store.upkeep.forget_notes(term)
    assert await store.raw.fetch(LEFT) == [(1,)]


async def test_snoozes_cost_no_retry_and_those_in_a_row_are_one_attempt_with_their_number(
    store: Storage, term: Term
) -> None:
    session = await store.work()
    claim = await store.begun(term, session)
    assert await end(store, claim, Failed("broken"))
    for _ in range(3):
        await due_now(store)
        (claim,) = await store.claim(session, await store.dispatch(term))
        assert await end(store, claim, Snoozed(600.0, "not yet"))
    job = await store.job(claim.job_id)
    assert (job.status, job.error) == (JobStatus.PENDING, "broken")
    assert job.schedule_at is not None
    assert 500 < (job.schedule_at - claim.started_at).total_seconds() < 700
    assert [(a.attempt, a.outcome, a.error, a.snoozes) for a in job.attempts] == [
        (1, "failed", "broken", None),
        (4, "snoozed", "not yet", 3),
    ]
    await due_now(store)
    (claim,) = await store.claim(session, await store.dispatch(term))
    assert claim.record.failures == 1
    assert await end(store, claim, Released("x"))
    (claim,) = await store.claim(session, await store.dispatch(term))
    assert await end(store, claim, Snoozed(0.0))
    assert [(a.attempt, a.outcome, a.snoozes) for a in (await store.job(claim.job_id)).attempts[1:]] == [
        (4, "snoozed", 3),
        (5, "released", None),
        (6, "snoozed", 1),
    ]
    assert not await end(store, claim, Snoozed(0.0))  # the claim ended with the settlement
