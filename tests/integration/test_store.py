"""Test each move of a job and its fence."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from taskd.domain.band import BANDS, Credit
from taskd.domain.errors import ConfigurationError, NotLeader, Rejected, SessionLost
from taskd.domain.fencing import Dispatch, Session, Term
from taskd.domain.job import AttemptId, JobFilter, JobStatus
from taskd.domain.outcome import Completed, Crashed, Failed, Released, TimedOut
from taskd.domain.policy import LONE_LOSS_LIMIT, SUSPECT_AFTER, Backoff
from taskd.seams import LostClaim
from taskd.store.migrations import migrate, pending
from taskd.store.terms import leader_name
from tests.integration.storage import DONE, Storage, deliveries, spec
from tests.servers import SharedServers

# ---------------------------------------------------------------- intake


async def test_concurrent_submits_share_inserts_and_each_gets_its_own_job(store: Storage) -> None:
    results = await asyncio.gather(*(store.intake.submit(spec(str(n))) for n in range(300)))
    assert len({a.id for a in results}) == 300
    for n in (0, 150, 299):
        assert bytes((await store.job(results[n].id)).payload) == str(n).encode()
    assert store.rung < 100


async def test_one_bad_job_harms_none_of_its_neighbours(store: Storage) -> None:
    bad = spec(dedupe_key="x" * 300)
    specs = [spec(str(n)) for n in range(40)]
    specs.insert(17, bad)
    results = await asyncio.gather(*(store.intake.submit(s) for s in specs), return_exceptions=True)
    assert isinstance(results.pop(17), Rejected)
    assert all(not isinstance(a, BaseException) for a in results)
    assert (await store.overview.counts()).pending == 40


async def test_a_bulk_submit_is_all_or_nothing_and_answers_in_order(store: Storage) -> None:
    with pytest.raises(Rejected):
        await store.submit(spec(), spec(dedupe_key="x" * 300), spec())
    assert (await store.overview.counts()).pending == 0
    results = await store.submit(*(spec(str(n)) for n in range(50)))
    payloads = [bytes((await store.job(a.id)).payload) for a in results]
    assert payloads == [str(n).encode() for n in range(50)]


async def test_two_hundred_submitters_of_one_key_make_one_job(store: Storage, postgres_dsn: str) -> None:
    others = [Storage(postgres_dsn) for _ in range(4)]
    intakes = [s.intake for s in (store, *others)]
    results = await asyncio.gather(*(intakes[n % 5].submit(spec(str(n), dedupe_key="k")) for n in range(200)))
    assert len({a.id for a in results}) == 1
    assert sum(not a.duplicate for a in results) == 1
    for other in others:
        await other.close()


async def test_a_key_stays_taken_after_its_job_has_finished(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec(dedupe_key="k"))
    claims = await store.claim(session, await store.dispatch(term))
    await store.settle(claims)
    (again,) = await store.submit(spec(dedupe_key="k"))
    assert (again.id, again.duplicate) == (claims[0].job_id, True)


async def test_duplicates_within_one_batch_get_the_first_ones_id(store: Storage) -> None:
    first, second, other = await store.submit(spec("1", dedupe_key="k"), spec("2", dedupe_key="k"), spec("3"))
    assert (second.id, second.duplicate, first.duplicate) == (first.id, True, False)
    assert other.id != first.id
    assert (await store.overview.counts()).pending == 2


# ---------------------------------------------------------------- dispatch


async def test_dispatch_goes_by_priority_then_time_then_id(store: Storage, term: Term) -> None:
    past = datetime.now(UTC) - timedelta(seconds=30)
    low, high, older, high2 = await store.submit(
        spec(priority=1), spec(priority=90), spec(priority=1, schedule_at=past), spec(priority=90)
    )
    order = [d.job_id for d in await store.dispatch(term)]
    assert order == [high.id, high2.id, older.id, low.id]


async def test_credit_bounds_a_dispatch_to_the_best_jobs(store: Storage, term: Term) -> None:
    jobs = await store.submit(*(spec(priority=n) for n in range(20)))
    assert [d.job_id for d in await store.dispatch(term, jobs=3)] == [j.id for j in reversed(jobs[-3:])]


async def test_ageing_lets_a_job_that_waited_long_overtake(store: Storage, term: Term) -> None:
    old, young = await store.submit(
        spec(priority=0, schedule_at=datetime.now(UTC) - timedelta(hours=1)), spec(priority=20)
    )
    assert [d.job_id for d in await store.dispatch(term, ageing=60.0)] == [old.id, young.id]


async def test_a_later_job_is_not_dispatched_and_tells_when_it_is_due(store: Storage, term: Term) -> None:
    await store.submit(spec(delay=60.0), spec(delay=30.0, priority=50))
    batch = await store.due.dispatch(term, [], 60.0)
    assert batch.dispatches == []
    assert await store.dispatch(term) == []
    batch = await store.due.dispatch(term, [Credit("default", band, 5) for band in BANDS], 60.0)
    assert batch.next_due is not None
    assert 20 < batch.next_due <= 30


async def test_other_queues_are_left_alone(store: Storage, term: Term) -> None:
    await store.submit(spec(queue="images"))
    assert await store.dispatch(term, queue="default") == []
    assert len(await store.dispatch(term, queue="images")) == 1


async def test_an_old_term_dispatches_reoffers_and_reaps_nothing(store: Storage, term: Term, postgres_dsn: str) -> None:
    await store.submit(spec())
    successor = Storage(postgres_dsn)
    new = await successor.lead()
    assert new.epoch == term.epoch + 1
    with pytest.raises(NotLeader):
        await store.dispatch(term)
    with pytest.raises(NotLeader):
        await store.due.reoffer(term, [Dispatch(1, 1, "default", 0)])
    with pytest.raises(NotLeader):
        await store.upkeep.end_expired(term, None)
    with pytest.raises(NotLeader):
        await store.upkeep.free_jobs(term, 3)
    with pytest.raises(NotLeader):
        await store.terms.renew(term, 0)
    assert (await store.overview.counts()).pending == 1
    await successor.close()


# ---------------------------------------------------------------- claim


async def test_a_doubled_or_late_delivery_claims_nothing(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec())
    first = await store.dispatch(term)
    await store.due.reoffer(term, first)
    second = await store.dispatch(term)
    assert second[0].seq == first[0].seq + 1
    assert await store.claim(session, first) == []
    (claim,) = await store.claim(session, second)
    assert claim.attempt == 1
    assert await store.claim(session, second) == []


async def test_an_entry_that_is_there_twice_is_claimed_once(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec())
    twice = [*deliveries(dispatches := await store.dispatch(term)), *deliveries(dispatches)]
    (claim,) = await store.claims.claim(session, twice)
    (same,) = await store.claims.claim(session, twice, again=True)
    assert (same.job_id, same.attempt) == (claim.job_id, claim.attempt)


async def test_a_claim_whose_answer_was_lost_comes_back_when_asked_again(
    store: Storage, term: Term, session: Session
) -> None:
    await store.submit(spec())
    dispatches = await store.dispatch(term)
    (claim,) = await store.claim(session, dispatches)
    (same,) = await store.claims.claim(session, deliveries(dispatches), again=True)
    assert (same.job_id, same.attempt) == (claim.job_id, claim.attempt)
    other = await store.work("worker-2")
    assert await store.claims.claim(other, deliveries(dispatches), again=True) == []


async def test_a_dead_session_claims_nothing_and_never_revives(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec())
    dispatches = await store.dispatch(term)
    assert await store.sessions.end(session.id)
    with pytest.raises(SessionLost):
        await store.claim(session, dispatches)
    for claims in ([], [AttemptId(dispatches[0].job_id, 1)]):  # two statements
        with pytest.raises(SessionLost):
            await store.sessions.heartbeat(session, 30.0, claims)
    assert not await store.sessions.end(session.id)


async def test_two_live_sessions_never_share_a_workers_id(store: Storage, session: Session) -> None:
    twin = Session(
        id=uuid4(), worker_id=session.worker_id, host=session.host, queues=session.queues, slots=session.slots
    )
    assert not await store.sessions.open(twin, 30.0)
    held = await store.sessions.holder(session.worker_id)
    assert held is not None
    assert held[0].id == session.id
    await store.sessions.end(session.id)
    assert await store.sessions.open(twin, 30.0)


async def test_two_workers_claiming_the_same_batch_share_it(store: Storage, term: Term, session: Session) -> None:
    other = await store.work("worker-2")
    await store.submit(*(spec() for _ in range(200)))
    dispatches = await store.dispatch(term, jobs=500)
    halves = await asyncio.gather(store.claim(session, dispatches), store.claim(other, list(reversed(dispatches))))
    claimed = [c.job_id for half in halves for c in half]
    assert sorted(claimed) == sorted(d.job_id for d in dispatches)


# ---------------------------------------------------------------- settle


async def test_a_completed_job_is_history_with_its_result(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec('{"a":1}', metadata={"team": "x"}))
    claims = await store.claim(session, await store.dispatch(term))
    assert await store.settle(claims) == {(claims[0].job_id, 1)}
    job = await store.job(claims[0].job_id)
    assert (job.status, bytes(job.result or b""), job.worker_id) == (JobStatus.COMPLETED, b'"done"', "worker-1")
    assert job.metadata == {"team": "x"}
    assert [(a.attempt, a.outcome, a.error) for a in job.attempts] == [(1, "completed", None)]
    counts = await store.overview.counts()
    assert (counts.completed, counts.pending, counts.running) == (1, 0, 0)


async def test_an_attempt_is_settled_once(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec())
    claims = await store.claim(session, await store.dispatch(term))
    assert len(await store.settle(claims)) == 1
    assert await store.settle(claims, Failed("late")) == set()
    assert (await store.job(claims[0].job_id)).status is JobStatus.COMPLETED


@pytest.mark.parametrize(
    ("outcome", "error"),
    [(Failed("boom"), "boom"), (TimedOut(2.0), "timed out after 2 s"), (Crashed("sig 9"), "sig 9")],
)
async def test_a_failed_attempt_is_pending_again_after_its_backoff(
    store: Storage, term: Term, session: Session, outcome: Failed, error: str
) -> None:
    await store.submit(spec(retry_backoff=Backoff(initial=40, jitter=False)))
    claims = await store.claim(session, await store.dispatch(term))
    await store.settle(claims, outcome)
    job = await store.job(claims[0].job_id)
    assert (job.status, job.error, job.attempt, job.worker_id) == (JobStatus.PENDING, error, 1, None)
    assert job.schedule_at is not None
    assert 30 < (job.schedule_at - datetime.now(UTC)).total_seconds() <= 41
    assert [(a.attempt, a.worker_id, a.error) for a in job.attempts] == [(1, "worker-1", error)]
    assert await store.dispatch(term) == []


async def test_a_failure_without_retries_left_is_final(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec(max_retries=0))
    claims = await store.claim(session, await store.dispatch(term))
    await store.settle(claims, Failed("boom"))
    job = await store.job(claims[0].job_id)
    assert (job.status, job.error, [a.outcome for a in job.attempts]) == (JobStatus.FAILED, "boom", ["failed"])


async def test_a_release_keeps_the_jobs_place_and_costs_no_retry(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec(max_retries=0))
    before = (await store.overview.jobs(JobFilter())).jobs[0].schedule_at
    claims = await store.claim(session, await store.dispatch(term))
    await store.settle(claims, Released("shutdown"))
    assert (await store.job(claims[0].job_id)).schedule_at == before
    (again,) = await store.claim(session, await store.dispatch(term))
    assert (again.attempt, again.record.failures, again.record.losses) == (2, 0, 0)


async def test_a_result_that_is_no_json_is_rejected_not_lost(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec(), spec())
    claims = await store.claim(session, await store.dispatch(term))
    with pytest.raises(Rejected):
        await store.settle(claims, Completed(msgspec.Raw(b"{nonsense")))
    assert (await store.overview.counts()).running == 2
    assert len(await store.settle(claims, DONE)) == 2


# ---------------------------------------------------------------- sessions and reaping


async def test_a_session_lives_until_it_is_ended_however_old_its_lease(store: Storage, term: Term) -> None:
    """Test that a standstill of PostgreSQL, or a jump of its clock, does not end the workers' attempts."""
    session = await store.work(ttl=0.0)
    await store.submit(spec())
    (claim,) = await store.claim(session, await store.dispatch(term))
    assert await store.settle([claim]) == {(claim.job_id, claim.attempt)}


async def test_a_heartbeat_names_the_claims_that_are_lost(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec(), spec())
    kept, settled = await store.claim(session, await store.dispatch(term))
    await store.settle([settled])
    held = [c.attempt_id for c in (kept, settled)] + [AttemptId(kept.job_id, 7)]
    lost = await store.sessions.heartbeat(session, 30.0, held)
    assert lost == {LostClaim(settled.job_id, 1, "completed"), LostClaim(kept.job_id, 7, None)}


async def test_a_live_session_is_not_reaped(store: Storage, term: Term, session: Session) -> None:
    await store.submit(spec())
    await store.claim(session, await store.dispatch(term))
    assert await store.expire(term) == []
    assert (await store.upkeep.free_jobs(term, 3)).restarted == 0
    assert (await store.overview.counts()).running == 1


async def test_a_reaped_attempt_cannot_settle(store: Storage, term: Term) -> None:
    session = await store.work(ttl=0.0)
    live = await store.work("worker-2")
    await store.submit(spec())
    dispatches = await store.dispatch(term)
    await store.sessions.heartbeat(session, 5.0, [])
    claims = await store.claim(session, dispatches)
    await store.sessions.heartbeat(session, 0.0, [])
    assert await store.expire(term) == ["worker-1"]
    assert (await store.upkeep.free_jobs(term, 3)).restarted == 1
    assert await store.settle(claims) == set()
    (again,) = await store.claim(live, await store.dispatch(term))
    assert (again.attempt, again.record.losses, again.record.failures) == (2, 1, 0)
    assert await store.settle(claims) == set()
    job = await store.job(again.job_id)
    assert [(a.attempt, a.outcome) for a in job.attempts] == [(1, "lost"), (2, None)]


async def test_a_heartbeat_that_gets_in_first_saves_an_expired_session(store: Storage, term: Term) -> None:
    session = await store.work(ttl=0.0)
    await store.sessions.heartbeat(session, 30.0, [])
    assert await store.expire(term) == []


async def test_a_reap_that_was_on_its_way_during_a_standstill_ends_no_session(store: Storage, term: Term) -> None:
    """Test a lease that was valid when the parameters were made, and that expired in a standstill before the statement."""
    _, before = await store.upkeep.end_expired(term, None)
    session = await store.work(ttl=0.0)
    assert (await store.upkeep.end_expired(term, before))[0] == []
    await store.sessions.heartbeat(session, 30.0, [])
    assert await store.expire(term) == []


async def test_a_job_that_keeps_losing_its_workers_fails(store: Storage, term: Term) -> None:
    await store.submit(spec())
    for n in range(SUSPECT_AFTER + LONE_LOSS_LIMIT):
        session = await store.work(f"worker-{n}")
        (claim,) = await store.claim(session, await store.dispatch(term), alone=n >= SUSPECT_AFTER)
        await store.sessions.end(session.id)
        freed = await store.upkeep.free_jobs(term, LONE_LOSS_LIMIT)
    assert (freed.restarted, freed.failed) == (0, 1)
    job = await store.job(claim.job_id)
    assert job.status is JobStatus.FAILED
    assert job.error == "3 workers disappeared under this job while it ran alone: it seems to end them"


# ---------------------------------------------------------------- leadership


async def test_leadership_is_taken_by_a_later_election_or_when_stale_and_not_otherwise(store: Storage) -> None:
    one, two = uuid4(), uuid4()
    first = await store.terms.take_over(one, "one", 10, stale_after=60.0)
    assert first is not None
    assert await store.terms.take_over(two, "two", None, stale_after=60.0) is None
    assert await store.terms.take_over(two, "two", 10, stale_after=60.0) is None
    second = await store.terms.take_over(two, "two", 11, stale_after=60.0)
    assert second is not None
    assert second.epoch == first.epoch + 1
    third = await store.terms.take_over(one, "one", 3, stale_after=-1.0)  # a wiped etcd counts from 1 again
    assert third is not None
    await store.terms.resign(third)
    assert (await store.terms.take_over(two, "two", None, stale_after=60.0)) is not None


async def test_a_takeover_breaks_the_lock_of_a_paused_leader(store: Storage, postgres_dsn: str) -> None:
    await store.lead()
    paused = await psycopg.AsyncConnection.connect(postgres_dsn, application_name=leader_name(store.holder))
    await paused.execute("SELECT 1 FROM taskd.leader FOR SHARE")
    successor = Storage(postgres_dsn)
    assert (await successor.lead()).epoch == 2
    with pytest.raises(psycopg.OperationalError):
        await paused.execute("SELECT 1")
    await paused.close()
    await successor.close()


# ---------------------------------------------------------------- reading


async def test_listing_shows_live_and_finished_jobs_newest_first(store: Storage, term: Term, session: Session) -> None:
    one, two, three = await store.submit(spec(task="a"), spec(task="b"), spec(task="a", queue="q"))
    claims = await store.claim(session, await store.dispatch(term))
    await store.settle([c for c in claims if c.job_id == one.id])
    assert [j.id for j in (await store.overview.jobs(JobFilter())).jobs] == [three.id, two.id, one.id]
    assert [j.id for j in (await store.overview.jobs(JobFilter(limit=1, before=three.id))).jobs] == [two.id]
    assert [j.id for j in (await store.overview.jobs(JobFilter(status=JobStatus.COMPLETED))).jobs] == [one.id]
    assert [j.id for j in (await store.overview.jobs(JobFilter(task="a"))).jobs] == [three.id, one.id]
    assert [j.id for j in (await store.overview.jobs(JobFilter(queue="q"))).jobs] == [three.id]
    assert await store.overview.final([one.id, two.id, 10**6]) == {one.id, 10**6}
    assert await store.overview.job(10**6) is None
    assert await store.overview.job(2**70) is None


async def test_sessions_of_long_ago_are_forgotten_and_what_they_counted_is_not(
    store: Storage, term: Term, session: Session
) -> None:
    async def sources() -> list[tuple[object, int]]:
        rows = await store.raw.fetch("SELECT source, n FROM taskd.finished_counts ORDER BY n, source", {})
        return [(source, n) for source, n in rows]

    live = await store.work("worker-2")
    for worker in (session, live, live):
        await store.submit(spec())
        await store.settle(await store.claim(worker, await store.dispatch(term)))
    await store.sessions.end(session.id)
    await store.upkeep.forget_sessions(term)
    assert await sources() == [(session.id, 1), (live.id, 2)]  # its end is recent

    await store.raw.fetch("UPDATE taskd.sessions SET ended_at = ended_at - interval '61 minutes'", {})
    await store.upkeep.forget_sessions(Term(term.epoch - 1, term.holder))
    assert await store.sessions.holder("worker-2") is not None
    assert len(await store.raw.fetch("SELECT id FROM taskd.sessions", {})) == 2  # an old term deletes nothing

    for _ in range(2):  # the counts of a deleted session are added up once
        await store.upkeep.forget_sessions(term)
    assert await store.raw.fetch("SELECT id FROM taskd.sessions", {}) == [(live.id,)]
    assert await sources() == [(UUID(int=0), 1), (live.id, 2)]
    assert (await store.overview.counts()).completed == 3


def test_a_database_that_cannot_keep_every_text_is_refused(servers: SharedServers) -> None:
    name = f"test_{uuid4().hex}"
    with psycopg.connect(servers.postgres.dsn, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    dsn = servers.postgres.dsn_of(name)
    for use in (migrate, pending):
        with pytest.raises(ConfigurationError, match=r"SQL_ASCII.*UTF8"):
            use(dsn)
    servers.drop_database(dsn)
