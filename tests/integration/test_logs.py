"""Test the stored output of attempts: kept under their claim, with their job, and no longer than it."""

from __future__ import annotations

from uuid import uuid4

import msgspec
import pytest

from taskd.domain.errors import NotLeader
from taskd.domain.fencing import Claim, Term
from taskd.domain.job import AttemptId, JobStatus
from taskd.domain.outcome import Failed
from taskd.domain.output import Chunk, Line, LogPosition, Output
from tests.integration.storage import DONE, Storage, spec

COUNT = "SELECT count(*) FROM taskd.logs"


def chunk(claim: Claim, line: int, *texts: str, tail: bool = False) -> Chunk:
    body = msgspec.json.encode([Line(1.5, "stdout", "", text) for text in texts])
    return Chunk(claim.job_id, claim.attempt, line, len(texts), tail, body)


def output(claim: Claim, *chunks: Chunk, gone: tuple[int, int] = (0, 0)) -> Output:
    return Output(job_id=claim.job_id, attempt=claim.attempt, session=claim.session, chunks=list(chunks), gone=gone)


async def texts(store: Storage, claim: Claim, after: LogPosition = LogPosition(), limit: int = 100) -> list[str]:  # noqa: B008 - a value
    pieces = await store.transcripts.read(claim.job_id, None, after, limit)
    return [line.text for piece in pieces for line in piece.body]


async def test_what_is_said_is_read_in_order_while_it_runs_and_in_history(store: Storage, term: Term) -> None:
    claim = await store.begun(term, await store.work())
    key = claim.job_id, claim.attempt
    assert await store.logs.write([output(claim, chunk(claim, 1, "a", "b"))]) == {key}
    assert await texts(store, claim) == ["a", "b"]
    again = output(claim, chunk(claim, 1, "a", "b"), chunk(claim, 3, "c \u2713 'quoted' \\"))
    assert await store.logs.write([again]) == {key}, "a chunk whose answer was lost is sent again"
    await store.settle([claim])
    assert await texts(store, claim) == ["a", "b", "c \u2713 'quoted' \\"]
    assert await texts(store, claim, LogPosition(claim.attempt, 2)) == ["c \u2713 'quoted' \\"]
    assert await texts(store, claim, limit=1) == ["a", "b"]


async def test_an_attempt_that_lost_its_claim_says_nothing_more(store: Storage, term: Term) -> None:
    claim = await store.begun(term, await store.work("worker-1", ttl=0.0001))
    assert await store.expire(term) == ["worker-1"]
    await store.upkeep.free_jobs(term, 3)
    assert await store.logs.write([output(claim, chunk(claim, 1, "too late"))]) == set()
    (second,) = await store.claim(await store.work("worker-2"), await store.dispatch(term))
    assert second.attempt == 2
    assert await store.logs.write([output(claim, chunk(claim, 1, "too late"))]) == set()
    stranger = msgspec.structs.replace(second, session=uuid4())
    assert await store.logs.write([output(stranger, chunk(second, 1, "not mine"))]) == set()
    assert await store.logs.write([output(second, chunk(second, 1, "mine"))]) == {(claim.job_id, 2)}
    await store.settle([second], Failed("no", permanent=True))
    assert await store.logs.write([output(second, chunk(second, 2, "after its end"))]) == set()
    assert await texts(store, claim) == ["mine"]


async def test_the_last_output_of_an_attempt_that_completed_its_job_itself_is_stored(
    store: Storage, term: Term
) -> None:
    claim = await store.begun(term, await store.work("worker-1"))
    await store.settle([claim])
    assert await store.logs.write([output(claim, chunk(claim, 1, "last"))]) == {(claim.job_id, 1)}
    assert await texts(store, claim) == ["last"]


async def test_the_last_output_of_a_cancelled_attempt_is_stored(store: Storage, term: Term) -> None:
    session = await store.work()
    claim, waiting = await store.begun(term, session), await store.submit(spec())
    await store.cancels.cancel([claim.job_id, waiting[0].id])
    assert await store.logs.write([output(claim, chunk(claim, 1, "cleaning up"))]) == {(claim.job_id, 1)}
    never = msgspec.structs.replace(claim, attempt_id=AttemptId(waiting[0].id, 0))
    assert await store.logs.write([output(never, chunk(never, 1, "I never ran"))]) == set()
    assert await texts(store, claim) == ["cleaning up"]


async def test_what_comes_with_the_end_is_stored_with_it(store: Storage, term: Term) -> None:
    claim = await store.begun(term, await store.work())
    assert await store.settle([claim], Failed("no"), chunk(claim, 1, "a \u2713", "b")) == {(claim.job_id, 1)}
    assert await texts(store, claim) == ["a \u2713", "b"]
    assert await store.settle([claim], DONE, chunk(claim, 3, "too late")) == set()
    assert await texts(store, claim) == ["a \u2713", "b"]


async def test_the_end_of_a_job_stores_the_last_output(store: Storage, term: Term) -> None:
    claim = await store.begun(term, await store.work())
    assert await store.settle([claim], DONE, chunk(claim, 1, "done")) == {(claim.job_id, 1)}
    assert await texts(store, claim) == ["done"]
    assert (await store.job(claim.job_id)).status is JobStatus.COMPLETED


async def test_the_oldest_of_the_last_part_makes_way(store: Storage, term: Term) -> None:
    claim = await store.begun(term, await store.work())
    tail = [chunk(claim, number, str(number), tail=True) for number in (10, 11, 12)]
    await store.logs.write([output(claim, chunk(claim, 1, "head"), *tail)])
    await store.logs.write([output(claim, chunk(claim, 13, "13", tail=True), gone=(10, 12))])
    assert await texts(store, claim) == ["head", "12", "13"]


async def test_output_goes_with_its_job(store: Storage, term: Term) -> None:
    session = await store.work()
    old, young = await store.begun(term, session), await store.begun(term, session)
    await store.logs.write([output(claim, chunk(claim, 1, "x")) for claim in (young, old)])
    await store.settle([old, young], DONE)
    await store.raw.fetch(
        "UPDATE taskd.finished_jobs SET completed_at = now() - interval '1 day' WHERE id = %(id)s", {"id": old.job_id}
    )
    pruned = await store.history.prune(term, JobStatus.COMPLETED, 3600.0, 0, 100)
    assert pruned.deleted == 1
    assert await store.raw.fetch("SELECT DISTINCT job_id FROM taskd.logs") == [(young.job_id,)]


async def test_what_a_deleted_job_has_left_behind_is_found_under_the_leaders_fence(store: Storage, term: Term) -> None:
    session = await store.work()
    running, ended = await store.begun(term, session), await store.begun(term, session)
    await store.logs.write([output(claim, chunk(claim, 1, "x")) for claim in (running, ended)])
    await store.settle([ended])
    await store.raw.fetch("INSERT INTO taskd.logs SELECT job_id + 1000, attempt, line, lines, body FROM taskd.logs")
    with pytest.raises(NotLeader):
        await store.history.forget_logs(Term(term.epoch - 1, term.holder), 0, 100)
    after: int | None = 0
    pages = 0
    while after is not None:
        after, pages = await store.history.forget_logs(term, after, 1), pages + 1
    assert pages == 5
    assert sorted(await store.raw.fetch("SELECT job_id FROM taskd.logs")) == [(running.job_id,), (ended.job_id,)]


async def test_the_traceback_of_each_attempt_is_kept_with_it(store: Storage, term: Term) -> None:
    from taskd.domain.outcome import Failed, TimedOut  # noqa: PLC0415 - with what it tests

    session = await store.work()
    claim = await store.begun(term, session)
    await store.settle([claim], Failed("ValueError: x", traceback="Traceback: first"))
    await store.raw.fetch("UPDATE taskd.jobs SET schedule_at = now()")
    (claim,) = await store.claim(session, await store.dispatch(term))
    await store.settle([claim], TimedOut(3.0, "Traceback: second"))
    await store.raw.fetch("UPDATE taskd.jobs SET schedule_at = now()")
    (claim,) = await store.claim(session, await store.dispatch(term))
    await store.settle([claim], Failed("no", permanent=True, traceback="Traceback: third"))
    job = await store.job(claim.job_id)
    assert job.error == "no"
    assert [(a.error, a.traceback) for a in job.attempts] == [
        ("ValueError: x", "Traceback: first"),
        ("timed out after 3 s", "Traceback: second"),
        ("no", "Traceback: third"),
    ]
    assert all(a.schedule_at and a.queued_at and a.schedule_at <= a.queued_at <= a.started_at for a in job.attempts)
