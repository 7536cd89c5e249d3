"""Test the audit trail: every move of every job leaves one event, for each statement that makes it."""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from taskd.domain.fencing import Claim, Session, Term
from taskd.domain.outcome import Failed, Outcome, Released
from taskd.domain.output import Chunk, Output
from taskd.domain.policy import Backoff
from taskd.domain.retry import Verdict, decide
from taskd.seams import Settlement
from taskd.store.claims import PostgresClaims
from taskd.store.lane import ONE_PLAN, Lane
from taskd.store.migrations import apply_audit, available, pending
from taskd.store.terms import leader_name
from tests.integration.storage import DONE, Storage, spec

AGAIN = Backoff(initial=0.0, factor=1.0, max=0.0, jitter=False)


class Move(NamedTuple):
    """Fields of an event that the tests compare."""

    version: int
    source: str | None
    target: str
    attempt: int


@pytest.fixture
def store(audited_store: Storage) -> Storage:
    return audited_store


def rows(store: Storage, query: str) -> list[Any]:
    with psycopg.connect(store.dsn, row_factory=namedtuple_row) as connection:
        return connection.execute(query.encode()).fetchall()


def events(store: Storage, job_id: int) -> list[Any]:
    return [e for e in rows(store, "SELECT * FROM taskd.job_events ORDER BY job_id, version") if e.job_id == job_id]


def moves(store: Storage, job_id: int) -> list[Move]:
    return [Move(e.version, e.from_status, e.to_status, e.attempt) for e in events(store, job_id)]


async def start(store: Storage, term: Term, session: Session) -> dict[int, Claim]:
    return {c.job_id: c for c in await store.claim(session, await store.dispatch(term))}


RUN = [Move(1, None, "pending", 0), Move(2, "pending", "queued", 0), Move(3, "queued", "running", 1)]


async def test_it_can_be_applied_again_and_is_no_ordinary_migration(store: Storage) -> None:
    (job,) = await store.submit(spec())
    apply_audit(store.dsn)
    assert moves(store, job.id) == RUN[:1]
    assert "audit" not in [m.name for m in available()]
    assert pending(store.dsn) == []


async def test_a_completed_job_has_four_events_with_their_writers(store: Storage, term: Term) -> None:
    (job,) = await store.submit(spec(priority=7, dedupe_key="k"))
    session = await store.work()
    claims = await start(store, term, session)
    await store.settle([claims[job.id]])
    assert moves(store, job.id) == [*RUN, Move(4, "running", "completed", 1)]
    submit, dispatch, claim, end = events(store, job.id)
    assert [e.by for e in (submit, dispatch, claim, end)] == [
        "taskd:test",
        leader_name(store.holder),
        "taskd:test",
        "taskd:test",
    ]
    assert [e.epoch for e in (submit, dispatch, claim, end)] == [None, term.epoch, None, None]
    assert (submit.session_id, dispatch.session_id) == (None, None)
    assert (claim.session_id, claim.worker_id, claim.dispatch_seq) == (session.id, "worker-1", 1)
    assert (end.session_id, end.worker_id, end.dispatch_seq) == (session.id, "worker-1", 1)
    assert (end.priority, end.dedupe_key, end.queue) == (7, "k", "default")
    assert submit.statement_at <= submit.at < dispatch.statement_at <= dispatch.at
    assert len({e.xid for e in (submit, dispatch, claim, end)}) == 4


async def test_one_settling_with_ends_retries_and_releases_leaves_one_event_for_each(
    store: Storage, term: Term
) -> None:
    jobs = await store.submit(*(spec(max_retries=n % 4, retry_backoff=AGAIN) for n in range(40)))
    claims = list((await start(store, term, await store.work())).values())
    outcomes: list[Outcome] = [DONE, Failed("no"), Released("shutdown"), Failed("never", permanent=True)]
    chosen = {c.job_id: outcomes[c.job_id % 4] for c in claims}
    settlements = [Settlement(c, chosen[c.job_id], decide(chosen[c.job_id], c.policy, c.record)) for c in claims]
    await store.claims.settle(settlements)
    for job, settlement in zip(jobs, settlements, strict=True):
        job_events = events(store, job.id)
        live = (await store.job(job.id)).status.value
        assert moves(store, job.id) == [*RUN, Move(4, "running", live, 1)]
        failed = isinstance(settlement.outcome, Failed)
        assert (job_events[3].failures, job_events[3].worker_id) == (int(failed), "worker-1")
    assert len({events(store, j.id)[3].xid for j in jobs}) == 1


async def test_big_batches_keep_pace_on_lanes_that_may_not_join(store: Storage, term: Term) -> None:
    lane = Lane(store.dsn, name="taskd:settle:worker-1", deadline=30.0, options=ONE_PLAN)
    await store.submit(*(spec() for _ in range(2000)))
    claims = list((await start_all(store, term)).values())
    settlements = [Settlement(c, DONE, settled(c)) for c in claims]
    assert len(await PostgresClaims(lane, lane).settle(settlements)) == 2000
    await lane.close()
    ends = rows(store, "SELECT by, count(*) AS n FROM taskd.job_events WHERE to_status = 'completed' GROUP BY by")
    assert [(e.by, e.n) for e in ends] == [("taskd:settle:worker-1", 2000)]


async def start_all(store: Storage, term: Term) -> dict[int, Claim]:
    session = await store.work()
    return {c.job_id: c for c in await store.claim(session, await store.dispatch(term, jobs=2000))}


def settled(claim: Claim) -> Verdict:
    return decide(DONE, claim.policy, claim.record)


async def test_what_changes_nothing_leaves_no_event(store: Storage, term: Term) -> None:
    (job,) = await store.submit(spec(dedupe_key="k"))
    session = await store.work()
    dispatches = await store.dispatch(term)
    claims = await store.claim(session, dispatches)
    await store.settle(claims)
    before = moves(store, job.id)
    await store.submit(spec(dedupe_key="k"))
    assert await store.claim(session, dispatches) == []
    assert await store.settle(claims) == set()
    assert await store.due.reoffer(term, dispatches) == 0
    assert moves(store, job.id) == before
    assert len(rows(store, "SELECT FROM taskd.job_events")) == len(before)


async def test_a_reoffered_job_goes_back_and_out_again(store: Storage, term: Term) -> None:
    (job,) = await store.submit(spec())
    await store.due.reoffer(term, await store.dispatch(term))
    await store.dispatch(term)
    assert moves(store, job.id) == [*RUN[:2], Move(3, "queued", "pending", 0), Move(4, "pending", "queued", 0)]
    assert [e.dispatch_seq for e in events(store, job.id)] == [0, 1, 1, 2]


async def test_a_reaped_job_tells_whom_it_lost(store: Storage, term: Term) -> None:
    (job,) = await store.submit(spec())
    session = await store.work(ttl=-1.0)
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        connection.execute("UPDATE taskd.sessions SET expires_at = clock_timestamp() + interval '1 hour'")
        await start(store, term, session)
        connection.execute("UPDATE taskd.sessions SET expires_at = clock_timestamp() - interval '1 hour'")
    assert await store.expire(term) == ["worker-1"]
    await store.upkeep.free_jobs(term, lone_loss_limit=3)
    assert moves(store, job.id) == [*RUN, Move(4, "running", "pending", 1)]
    reap = events(store, job.id)[3]
    assert (reap.session_id, reap.worker_id, reap.losses) == (session.id, "worker-1", 1)
    assert (reap.by, reap.epoch) == (leader_name(store.holder), term.epoch)
    sessions = rows(store, "SELECT * FROM taskd.session_events ORDER BY at")
    assert [s.what for s in sessions] == ["open", "renew", "renew", "end"]
    assert (sessions[-1].by, sessions[-1].session_id) == (leader_name(store.holder), session.id)
    assert sessions[-1].expires_at == sessions[-2].expires_at < sessions[-1].at < reap.at


async def test_hopeless_and_hopeful_jobs_of_one_reap_are_recorded_apart(store: Storage, term: Term) -> None:
    (doomed,) = await store.submit(spec())
    for name in ("one", "two"):
        session = await store.work(name)
        await start(store, term, session)
        assert await store.sessions.end(session.id)
        await store.upkeep.free_jobs(term, lone_loss_limit=1)
    sessions = [await store.work(name) for name in ("three", "four")]
    assert len(await store.claim(sessions[0], await store.dispatch(term), alone=True)) == 1
    fresh = await store.submit(spec())
    await start(store, term, sessions[1])
    for session in sessions:
        assert await store.sessions.end(session.id)
    await store.upkeep.free_jobs(term, lone_loss_limit=1)
    assert moves(store, doomed.id)[-1] == Move(10, "running", "failed", 3)
    assert events(store, doomed.id)[-1].losses == 3
    assert moves(store, fresh[0].id)[-1] == Move(4, "running", "pending", 1)
    ends = rows(store, "SELECT * FROM taskd.session_events WHERE what = 'end'")
    assert {e.by for e in ends} == {"taskd:test"}


async def test_terms_and_sessions_are_recorded(store: Storage, term: Term) -> None:
    session = await store.work()
    await store.sessions.heartbeat(session, 30.0, [])
    await store.terms.renew(term, 5)
    await store.terms.resign(term)
    other = Storage(store.dsn)
    second = await other.lead()
    await other.close()
    terms = rows(store, "SELECT * FROM taskd.term_events ORDER BY at")
    assert [(t.epoch, t.holder, t.what) for t in terms] == [
        (term.epoch, store.holder, "takeover"),
        (term.epoch, store.holder, "resign"),
        (second.epoch, other.holder, "takeover"),
    ]
    assert [s.what for s in rows(store, "SELECT * FROM taskd.session_events ORDER BY at")] == ["open", "renew"]


async def test_each_term_is_recorded_with_its_shard_also_the_first_one_of_a_shard(store: Storage, term: Term) -> None:
    for _ in range(2):
        shard_2 = await store.lead(2, 3)
    await store.terms.resign(shard_2)
    term_events = rows(store, "SELECT shard, shards, epoch, what FROM taskd.term_events ORDER BY at")
    assert term_events == [
        (0, 1, 1, "takeover"),
        (2, 3, 1, "takeover"),
        (2, 3, 2, "takeover"),
        (2, 3, 2, "resign"),
    ]


async def test_a_lost_job_and_one_that_ends_twice_are_recorded(store: Storage, term: Term) -> None:
    lost, twice = await store.submit(spec(), spec())
    await store.settle(list((await start(store, term, await store.work())).values())[1:])
    copy = """INSERT INTO taskd.finished_jobs SELECT * FROM taskd.finished_jobs WHERE id = %s"""
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM taskd.jobs WHERE id = %s", [lost.id])
        connection.execute("ALTER TABLE taskd.finished_jobs DROP CONSTRAINT finished_jobs_pkey")
        connection.execute(copy, [twice.id])
    assert moves(store, lost.id) == [*RUN, Move(4, "running", "lost", 1)]
    assert moves(store, twice.id)[3:] == [Move(4, "running", "completed", 1), Move(5, "completed", "completed", 1)]


async def test_an_attempt_raised_without_a_claim_is_recorded(store: Storage, term: Term) -> None:
    (job,) = await store.submit(spec())
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        connection.execute("UPDATE taskd.jobs SET attempt = attempt + 1")
    assert moves(store, job.id)[1:] == [Move(2, "pending", "pending", 1)]


async def test_the_term_of_a_present_leader_begins_with_the_trail(postgres_dsn: str) -> None:
    storage = Storage(postgres_dsn)
    try:
        term, other = await storage.lead(), await storage.lead(1, 2)
        assert term.epoch == other.epoch
        for _ in range(2):
            apply_audit(postgres_dsn)
        term_events = rows(storage, "SELECT shard, epoch, holder::text, what FROM taskd.term_events ORDER BY shard")
    finally:
        await storage.close()
    assert term_events == [(shard, 1, str(storage.holder), "takeover") for shard in range(2)]


async def test_what_is_stored_of_an_attempts_output_is_in_the_trail(store: Storage) -> None:
    term, session = await store.lead(), await store.work()
    await store.submit(spec())
    (claim,) = await store.claim(session, await store.dispatch(term))
    chunk = Chunk(claim.job_id, 1, 1, 1, False, b'[[1.5,"stdout","","a"]]')
    more = Chunk(claim.job_id, 1, 2, 1, False, b'[[1.5,"stdout","","b"]]')
    output = Output(job_id=claim.job_id, attempt=1, session=claim.session, chunks=[chunk, more])
    assert await store.logs.write([output])
    assert [(event.job_id, event.attempt) for event in rows(store, "SELECT * FROM taskd.output_events")] == [
        (claim.job_id, 1)
    ]
