"""Test jobs that lose workers: after a few losses they run alone, and only losses alone count against them."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest

from taskd.domain.fencing import Claim, Session, Suspect, Term
from taskd.domain.job import JobStatus
from taskd.domain.outcome import Failed, Released
from taskd.domain.policy import LONE_LOSS_LIMIT, SUSPECT_AFTER
from taskd.store import claims as claims_module
from taskd.store.lane import ONE_PLAN
from taskd.store.pinned import flags
from taskd.store.statements import statement
from tests.integration.storage import Storage, deliveries, spec


async def lose(store: Storage, term: Term, session: Session) -> None:
    """Let the session's worker disappear, and free its jobs."""
    assert await store.sessions.end(session.id)
    await store.upkeep.free_jobs(term, LONE_LOSS_LIMIT)


async def lost_together(store: Storage, term: Term, jobs: int, times: int = SUSPECT_AFTER) -> list[int]:
    """Make jobs that have lost so many workers side by side. Return their ids."""
    ids = [submitted.id for submitted in await store.submit(*[spec()] * jobs)]
    for n in range(times):
        session = await store.work(f"gone-{n}")
        assert len(await store.claim(session, await store.dispatch(term))) == jobs
        await lose(store, term, session)
    return ids


async def claimed_alone(store: Storage, term: Term, session: Session) -> list[Claim]:
    return await store.claim(session, await store.dispatch(term), alone=True)


async def waiting(store: Storage, session: Session, dispatches: Sequence[object]) -> list[Suspect]:
    """Return the suspects that a plain claim of these deliveries leaves."""
    assert await store.claim(session, dispatches) == []  # type: ignore[arg-type]
    return await store.claims.suspects(deliveries(dispatches))  # type: ignore[arg-type]


async def test_one_loss_changes_nothing(store: Storage, term: Term, session: Session) -> None:
    await lost_together(store, term, 3, times=SUSPECT_AFTER - 1)
    assert len(await store.claim(session, await store.dispatch(term))) == 3


async def test_a_job_that_lost_too_many_workers_is_claimed_alone_only(
    store: Storage, term: Term, session: Session
) -> None:
    (job_id,) = await lost_together(store, term, 1)
    (fresh,) = await store.submit(spec())
    dispatches = await store.dispatch(term)
    (neighbour,) = await store.claim(session, dispatches)
    assert neighbour.job_id == fresh.id
    (suspect,) = await store.claims.suspects(deliveries(dispatches))
    assert (suspect.delivery.job_id, suspect.queue, suspect.losses) == (job_id, "default", SUSPECT_AFTER)
    assert 0 <= suspect.waited < 60
    assert await store.claims.claim(session, [suspect.delivery], alone=True) == []  # another job still runs beside it
    await store.settle([neighbour])
    (claim,) = await store.claims.claim(session, [suspect.delivery], alone=True)
    assert (claim.job_id, claim.record.losses) == (job_id, SUSPECT_AFTER)
    assert await store.claims.suspects([suspect.delivery]) == []
    assert await store.settle([claim]) == {(job_id, claim.attempt)}


async def test_a_plain_job_costs_no_look_for_company(
    store: Storage, term: Term, session: Session, postgres_dsn: str
) -> None:
    await store.submit(spec())
    (dispatch,) = await store.dispatch(term)
    parameters = {
        "session": session.id,
        "ids": [dispatch.job_id],
        "seqs": [dispatch.seq],
        "again": False,
        "alone": True,
    }
    with psycopg.connect(postgres_dsn, options=flags(ONE_PLAN)) as connection:
        explain = f"EXPLAIN (ANALYZE, COSTS off) {statement('claim')}".encode()
        rows = connection.execute(explain, parameters | {"suspect_after": SUSPECT_AFTER}).fetchall()
    (look,) = [line for (line,) in rows if "jobs_claimed" in line]
    assert "never executed" in look


async def test_a_lone_claim_whose_answer_was_lost_comes_back(store: Storage, term: Term, session: Session) -> None:
    await lost_together(store, term, 1)
    offered = deliveries(await store.dispatch(term))
    claimed = await store.claims.claim(session, offered, alone=True)
    assert await store.claims.claim(session, offered, again=True, alone=True) == claimed


async def test_losses_alone_make_the_guilty_one_fail_and_its_neighbours_go_free(store: Storage, term: Term) -> None:
    guilty, *innocent = await lost_together(store, term, 3)
    for n in range(LONE_LOSS_LIMIT):
        session = await store.work(f"alone-{n}")
        offered = [d for d in await store.dispatch(term) if d.job_id == guilty]
        assert len(await store.claim(session, offered, alone=True)) == 1
        await lose(store, term, session)
    job = await store.job(guilty)
    assert job.status is JobStatus.FAILED
    assert job.error == f"{LONE_LOSS_LIMIT} workers disappeared under this job while it ran alone: it seems to end them"
    errors = [attempt.error for attempt in job.attempts]
    company, alone = "its worker disappeared", "its worker disappeared while it ran alone"
    assert errors[:-1] == [company] * SUSPECT_AFTER + [alone] * (LONE_LOSS_LIMIT - 1)
    for job_id in innocent:
        assert (await store.job(job_id)).status is not JobStatus.FAILED


async def test_losses_in_company_are_never_a_verdict(
    store: Storage, term: Term, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of an earlier version claim suspects beside other jobs."""
    jobs = await lost_together(store, term, 2)
    monkeypatch.setattr(claims_module, "SUSPECT_AFTER", 1000)
    for n in range(25):
        session = await store.work(f"old-{n}")
        assert len(await store.claim(session, await store.dispatch(term))) == 2
        await lose(store, term, session)
    for job_id in jobs:
        job = await store.job(job_id)
        assert job.status is JobStatus.PENDING
        assert {attempt.error for attempt in job.attempts} == {"its worker disappeared"}


@pytest.mark.parametrize("outcome", [Released("shutdown"), Failed("no")], ids=["release", "failure"])
async def test_a_suspect_stays_one_whatever_its_lone_attempts_end_as(
    store: Storage, term: Term, session: Session, outcome: Released | Failed
) -> None:
    await lost_together(store, term, 1)
    await store.settle(await claimed_alone(store, term, session), outcome)
    with_delay = isinstance(outcome, Failed)
    dispatches = await store.dispatch(term)
    assert len(dispatches) == (not with_delay)
    assert len(await waiting(store, session, dispatches)) == len(dispatches)


async def test_a_retry_by_hand_starts_afresh(store: Storage, term: Term, session: Session) -> None:
    (old,) = await lost_together(store, term, 1)
    for n in range(LONE_LOSS_LIMIT):
        doomed = await store.work(f"alone-{n}")
        await claimed_alone(store, term, doomed)
        await lose(store, term, doomed)
    assert (await store.job(old)).status is JobStatus.FAILED
    new = (await store.retries.retry([old]))[old]
    (claim,) = await store.claim(session, await store.dispatch(term))
    assert (claim.job_id, claim.record.losses) == (new, 0)


async def test_a_suspect_that_is_put_off_is_due_later_and_others_go_first(
    store: Storage, term: Term, session: Session
) -> None:
    await lost_together(store, term, 1)
    (suspect,) = await waiting(store, session, await store.dispatch(term))
    assert await store.claims.put_off(session, suspect, 30.0)
    assert not await store.claims.put_off(session, suspect, 30.0)
    job = await store.job(suspect.delivery.job_id)
    assert job.status is JobStatus.PENDING
    assert await store.dispatch(term) == []
    assert await store.claims.claim(session, [suspect.delivery], alone=True) == []


async def test_a_dispatch_of_before_or_a_dead_session_puts_nothing_off(
    store: Storage, term: Term, session: Session
) -> None:
    await lost_together(store, term, 1)
    dead = await store.work("dead")
    (old,) = await waiting(store, session, await store.dispatch(term))
    assert await store.sessions.end(dead.id)
    assert not await store.claims.put_off(dead, old, 0.0)
    assert await store.claims.put_off(session, old, 0.0)
    (now,) = await waiting(store, session, await store.dispatch(term))
    assert not await store.claims.put_off(session, old, 0.0)
    assert await store.claims.put_off(session, now, 0.0)


async def test_a_plain_job_is_not_put_off(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec())
    (delivery,) = deliveries(await store.dispatch(term))
    assert await store.claims.suspects([delivery]) == []
    assert not await store.claims.put_off(session, Suspect(delivery, "default", 0, 0.0), 0.0)
    assert len(await store.claims.claim(session, [delivery])) == 1
