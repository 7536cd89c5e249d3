"""The right to run one attempt, and its end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from taskd.domain.errors import SessionLost
from taskd.domain.fencing import Claim, Delivery, Session, Suspect
from taskd.domain.job import AttemptId, JobInfo, Scalar
from taskd.domain.outcome import Completed, Crashed, Failed, Outcome, Released, Snoozed, TimedOut
from taskd.domain.policy import SUSPECT_AFTER, Backoff
from taskd.domain.retry import Again, Counter
from taskd.runtime import meters
from taskd.seams import Settlement
from taskd.store.lane import Lane, int_array
from taskd.store.statements import statement

CLAIM = statement("claim")
SUSPECTS = statement("suspects")
PUT_OFF = statement("put_off")
SETTLE = statement("settle")
ENDED = statement("ended")


class PostgresClaims:
    """Implements `taskd.seams.Claims`; two lanes, so that claiming and settling overlap."""

    def __init__(self, claiming: Lane, settling: Lane) -> None:
        self._claiming = claiming
        self._settling = settling

    async def claim(
        self, session: Session, deliveries: Sequence[Delivery], *, again: bool = False, alone: bool = False
    ) -> list[Claim]:
        """queued -> running for those deliveries that are current. Raises SessionLost if the session is over.

        `again` says that this was tried before and the answer was lost: claims that it made come back as well. Suspects are
        claimed only `alone`: then nothing else may be claimed for the session until they have ended.
        """
        # Each once: Redis may hold an entry twice, and a claim that was made comes back for each that names it.
        ordered = sorted({(d.job_id, d.seq) for d in deliveries})
        parameters = {
            "session": session.id,
            "ids": int_array(job_id for job_id, _ in ordered),
            "seqs": int_array(seq for _, seq in ordered),
            "again": again,
            "alone": alone,
            "suspect_after": SUSPECT_AFTER,
        }
        with meters.timed(meters.CLAIM):
            rows = await self._claiming.fetch(CLAIM, parameters)
        if not rows[0][0]:
            raise SessionLost(f"the session of worker {session.worker_id} is over")
        return [_claim(session, row[1], row[2:]) for row in rows if row[2] is not None]

    async def suspects(self, deliveries: Sequence[Delivery]) -> list[Suspect]:
        """Those of `deliveries` that are current and whose jobs only run alone."""
        by_job = {delivery.job_id: delivery for delivery in deliveries}
        parameters = {
            "ids": int_array(by_job),
            "seqs": int_array(delivery.seq for delivery in by_job.values()),
            "suspect_after": SUSPECT_AFTER,
        }
        rows = await self._claiming.fetch(SUSPECTS, parameters)
        return [Suspect(by_job[job_id], queue, losses, waited) for job_id, queue, losses, waited in rows]

    async def put_off(self, session: Session, suspect: Suspect, delay: float) -> bool:
        """queued -> pending, due again after `delay` seconds; False if the dispatch is no longer current."""
        parameters = {
            "session": session.id,
            "id": suspect.delivery.job_id,
            "seq": suspect.delivery.seq,
            "delay": delay,
            "suspect_after": SUSPECT_AFTER,
        }
        return bool(await self._claiming.fetch(PUT_OFF, parameters))

    async def settle(self, settlements: Sequence[Settlement]) -> set[AttemptId]:
        """Record how attempts ended; those that were still the claim's own."""
        ordered = sorted(settlements, key=lambda s: s.claim.job_id)
        document = msgspec.json.encode([_ending(s) for s in ordered]).decode()
        with meters.timed(meters.SETTLE):
            rows = await self._settling.fetch(SETTLE, {"settlements": document})
        return {AttemptId(job_id, attempt) for job_id, attempt in rows}

    async def outcomes(self, attempts: Collection[AttemptId]) -> dict[AttemptId, str]:
        """Return the outcomes of those attempts that ended their job."""
        parameters = {
            "ids": int_array(job_id for job_id, _ in attempts),
            "attempts": int_array(attempt for _, attempt in attempts),
        }
        rows = await self._settling.fetch(ENDED, parameters)
        return {AttemptId(job_id, attempt): outcome for job_id, attempt, outcome in rows}


def _claim(session: Session, epoch: int, row: tuple[Any, ...]) -> Claim:
    job_id, attempt, task, queue, priority, payload, created, scheduled, queued, started, timeout, metadata, *record = (
        row
    )
    max_retries, backoff, failures, crashes, losses, checkpoint = record
    return Claim(
        attempt_id=AttemptId(job_id, attempt),
        job=JobInfo(
            id=job_id,
            task=task,
            queue=queue,
            priority=priority,
            payload_json=bytes(payload),
            created_at=created,
            schedule_at=scheduled,
            timeout=timeout,
            metadata=msgspec.json.decode(metadata, type=dict[str, Scalar]) if metadata is not None else {},
            max_retries=max_retries,
            failures=failures,
            worker_id=session.worker_id,
        ),
        session=session.id,
        epoch=epoch,
        queued_at=queued,
        started_at=started,
        backoff=_backoff(bytes(backoff)),
        crashes=crashes,
        losses=losses,
        checkpoint=bytes(checkpoint) if checkpoint is not None else None,
    )


@lru_cache(maxsize=256)
def _backoff(text: bytes) -> Backoff:
    """Most jobs share one, so most are decoded already."""
    return msgspec.json.decode(text, type=Backoff)


class _Ending(msgspec.Struct, frozen=True, omit_defaults=True):
    """One settlement as settle.sql reads it from its JSON document, where what most have not is left out."""

    id: int
    attempt: int
    session: UUID
    status: str
    outcome: str
    error: str | None = None
    traceback: str | None = None
    result: msgspec.Raw | None = None
    delay: float = 0.0
    again_at: datetime | None = None
    failures: int = 0
    crashes: int = 0
    noted: bool = False
    progress: msgspec.Raw | None = None
    line: int | None = None
    lines: int | None = None
    said: msgspec.Raw | None = None


def _ending(settlement: Settlement) -> _Ending:
    claim, outcome, verdict, said = settlement.claim, settlement.outcome, settlement.verdict, settlement.said
    again = verdict if isinstance(verdict, Again) else None
    status = "pending" if again else ("completed" if isinstance(outcome, Completed) else "failed")
    return _Ending(
        id=claim.job_id,
        attempt=claim.attempt,
        session=claim.session,
        status=status,
        outcome=str(outcome.__struct_config__.tag),
        error=_error(outcome),
        traceback=outcome.traceback if isinstance(outcome, Failed | TimedOut) else None,
        result=outcome.result if isinstance(outcome, Completed) else None,
        delay=again.delay if again else 0.0,
        again_at=again.at if again else None,
        failures=int(verdict.counter is Counter.FAILURES),
        crashes=int(verdict.counter is Counter.CRASHES),
        noted=settlement.noted,
        progress=msgspec.Raw(settlement.progress) if settlement.progress is not None else None,
        line=said.line if said is not None else None,
        lines=said.lines if said is not None else None,
        said=msgspec.Raw(said.body) if said is not None else None,
    )


def _error(outcome: Outcome) -> str | None:
    match outcome:
        case Failed(error=error) | Crashed(error=error):
            return error
        case TimedOut(after=after):
            return f"timed out after {after:g} s"
        case Snoozed(reason=reason):
            return reason
        case Released() | Completed():
            return None
