"""A store on one database, with shorthands for its tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from taskd.domain.band import BANDS, Credit
from taskd.domain.fencing import Claim, Delivery, Dispatch, Host, Note, Session, Term
from taskd.domain.job import AttemptId, Job, JobSpec, Submitted
from taskd.domain.outcome import Completed, Outcome
from taskd.domain.output import Chunk
from taskd.domain.retry import decide
from taskd.seams import Settlement
from taskd.store.cancels import PostgresCancels
from taskd.store.claims import PostgresClaims
from taskd.store.dispatch import PostgresDispatching
from taskd.store.intake import SUBMIT_OPTIONS, PostgresIntake
from taskd.store.lane import ONE_PLAN, RELAXED, Lane, Lanes
from taskd.store.logs import PostgresLogReader, PostgresLogStore
from taskd.store.notes import PostgresNoteStore
from taskd.store.prune import PostgresPruning
from taskd.store.reads import PostgresReads
from taskd.store.reap import PostgresReaping
from taskd.store.retries import PostgresRetries
from taskd.store.schedules import PostgresSchedules
from taskd.store.sessions import PostgresSessions
from taskd.store.terms import LOCK_OPTIONS, PostgresTerms, leader_name
from taskd.store.ticks import PostgresTicks

DONE = Completed(msgspec.Raw(b'"done"'))
AGEING = 3600.0


def spec(payload: str = "null", **fields: Any) -> JobSpec:
    return JobSpec(payload=msgspec.Raw(payload.encode()), **fields)


class FixedCompletion:
    """Completion of a task's transaction with a fixed result and no progress."""

    progress = None

    def __init__(self, result: bytes = b"1") -> None:
        self.result = result

    def committed(self) -> None:
        """Do nothing."""


class Storage:
    """All parts of the store, each on its own connection, as in a process."""

    def __init__(self, dsn: str, *, deadline: float = 5.0) -> None:
        self.dsn = dsn
        self.holder = uuid4()
        self.lanes: list[Lane | Lanes] = []
        self.rung = 0

        def lane(options: Mapping[str, str] | None = None, name: str = "taskd:test") -> Lane:
            self.lanes.append(new_lane := Lane(dsn, name=name, deadline=deadline, options=options))
            return new_lane

        self.raw = lane()
        self.intake = PostgresIntake(lane(SUBMIT_OPTIONS), lane(SUBMIT_OPTIONS), deadline=deadline, stored=self._ring)
        self.terms = PostgresTerms(lane(LOCK_OPTIONS))
        self.due = PostgresDispatching(lane(RELAXED, leader_name(self.holder)))
        self.claims = PostgresClaims(lane(ONE_PLAN), lane(ONE_PLAN))
        self.stopped: list[int] = []
        self.cancels = PostgresCancels(lane(ONE_PLAN), stopped=self.stopped.extend)
        self.retries = PostgresRetries(lane(ONE_PLAN), stored=self._ring)
        self.notes = PostgresNoteStore(lane(ONE_PLAN))
        self.logs = PostgresLogStore(lane(RELAXED))
        self.sessions = PostgresSessions(lane(RELAXED))
        self.upkeep = PostgresReaping(lane(ONE_PLAN, leader_name(self.holder)))
        self.history = PostgresPruning(lane(name=leader_name(self.holder)))
        self.schedules = PostgresSchedules(lane(), changed=lambda: None)
        self.ticks = PostgresTicks(lane(ONE_PLAN, leader_name(self.holder)))
        reads = Lanes(dsn, name="taskd:reads", deadline=deadline, size=2)
        self.lanes.append(reads)
        self.overview = PostgresReads(reads)
        self.transcripts = PostgresLogReader(reads)

    def _ring(self) -> None:
        self.rung += 1

    async def close(self) -> None:
        for lane in self.lanes:
            await lane.close()

    async def lead(self, shard: int = 0, shards: int = 1) -> Term:
        term = await self.terms.take_over(self.holder, "test", None, stale_after=-1.0, shard=shard, shards=shards)
        assert term is not None
        return term

    async def work(
        self, worker_id: str = "worker-1", ttl: float = 30.0, queues: Sequence[str] = ("default",)
    ) -> Session:
        session = Session(
            id=uuid4(), worker_id=worker_id, host=Host("host", "boot", 1, 1), queues=tuple(queues), slots=8
        )
        assert await self.sessions.open(session, ttl)
        return session

    async def submit(self, *specs: JobSpec) -> list[Submitted]:
        return await self.intake.submit_many(specs)

    async def dispatch(
        self, term: Term, jobs: int = 100, queue: str = "default", ageing: float = AGEING
    ) -> list[Dispatch]:
        credits_ = [Credit(queue, band, jobs) for band in BANDS]
        return (await self.due.dispatch(term, credits_, ageing)).dispatches

    async def claim(self, session: Session, dispatches: Sequence[Dispatch], *, alone: bool = False) -> list[Claim]:
        return await self.claims.claim(session, deliveries(dispatches), alone=alone)

    async def begun(self, term: Term, session: Session) -> Claim:
        """Submit a job and return the claim of its first attempt."""
        await self.submit(spec())
        (claim,) = await self.claim(session, await self.dispatch(term))
        return claim

    async def settle(
        self, claims: Sequence[Claim], outcome: Outcome = DONE, output: Chunk | None = None
    ) -> set[AttemptId]:
        verdicts = [(claim, decide(outcome, claim.policy, claim.record)) for claim in claims]
        return await self.claims.settle([Settlement(c, outcome, verdict, output=output) for c, verdict in verdicts])

    async def note(self, claim: Claim, progress: bytes | None = None, checkpoint: bytes | None = None) -> bool:
        """Write one note; return True if the claim held."""
        note = Note(
            job_id=claim.job_id,
            attempt=claim.attempt,
            session=claim.session,
            progress=progress,
            checkpoint=checkpoint,
        )
        return bool(await self.notes.write([note]))

    async def expire(self, term: Term) -> list[str]:
        """End the sessions that have expired; return their workers' ids."""
        _, now = await self.upkeep.end_expired(term, None)
        workers, _ = await self.upkeep.end_expired(term, now)
        return workers

    async def job(self, job_id: int) -> Job:
        row = await self.overview.job(job_id)
        assert row is not None
        return row


def deliveries(dispatches: Sequence[Dispatch]) -> list[Delivery]:
    return [Delivery(d.job_id, d.seq, "", "") for d in dispatches]
