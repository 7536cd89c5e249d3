"""Claims: the right to run one attempt of a job, and its end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import lru_cache

import msgspec

from taskd.domain.errors import SessionLost
from taskd.domain.fencing import Claim, Delivery, Session, Suspect
from taskd.domain.job import AttemptId, JobInfo, Json, Scalar
from taskd.domain.outcome import Completed, Crashed, Failed, Outcome, Released, Snoozed, TimedOut
from taskd.domain.policy import SUSPECT_AFTER, Backoff
from taskd.domain.retry import Again, Counter
from taskd.runtime import meters
from taskd.seams import Settlement
from taskd.store.batches import AttemptRow, write_batch
from taskd.store.lane import Lane, int_array
from taskd.store.statements import statement

CLAIM = statement("claim")
SUSPECTS = statement("suspects")
PUT_OFF = statement("put_off")
SETTLE = statement("settle")
ENDED = statement("ended")


class PostgresClaims:
    """Implements `taskd.seams.Claims`, on two lanes, so that claiming and settling overlap."""

    def __init__(self, claiming: Lane, settling: Lane) -> None:
        self._claiming = claiming
        self._settling = settling

    async def claim(
        self, session: Session, deliveries: Sequence[Delivery], *, again: bool = False, alone: bool = False
    ) -> list[Claim]:
        # Each once: Redis may hold an entry twice, and a claim comes back for each delivery that names it.
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
        return [_claim(session, _ClaimRow(*row)) for row in rows if row[2] is not None]

    async def suspects(self, deliveries: Sequence[Delivery]) -> list[Suspect]:
        by_job = {delivery.job_id: delivery for delivery in deliveries}
        parameters = {
            "ids": int_array(by_job),
            "seqs": int_array(delivery.seq for delivery in by_job.values()),
            "suspect_after": SUSPECT_AFTER,
        }
        rows = await self._claiming.fetch(SUSPECTS, parameters)
        return [Suspect(by_job[job_id], queue, losses, waited) for job_id, queue, losses, waited in rows]

    async def put_off(self, session: Session, suspect: Suspect, delay: float) -> bool:
        parameters = {
            "session": session.id,
            "id": suspect.delivery.job_id,
            "seq": suspect.delivery.seq,
            "delay": delay,
            "suspect_after": SUSPECT_AFTER,
        }
        return bool(await self._claiming.fetch(PUT_OFF, parameters))

    async def settle(self, settlements: Sequence[Settlement]) -> set[AttemptId]:
        rows = map(_ending, settlements)
        return await write_batch(self._settling, SETTLE, "settlements", rows, timed=meters.timed(meters.SETTLE))

    async def outcomes(self, attempts: Collection[AttemptId]) -> dict[AttemptId, str]:
        parameters = {
            "ids": int_array(job_id for job_id, _ in attempts),
            "attempts": int_array(attempt for _, attempt in attempts),
        }
        rows = await self._settling.fetch(ENDED, parameters)
        return {AttemptId(job_id, attempt): outcome for job_id, attempt, outcome in rows}


class _ClaimRow(msgspec.Struct, frozen=True, gc=False):
    """A row of claim.sql: 1 if the session is alive, the epoch, the fragment `claimed_columns`, and the checkpoint."""

    alive: int
    epoch: int
    id: int
    attempt: int
    task: str
    queue: str
    priority: int
    payload: Json
    created_at: datetime
    schedule_at: datetime
    queued_at: datetime
    started_at: datetime
    timeout: float | None
    metadata: Json | None
    max_retries: int
    backoff: Json
    failures: int
    crashes: int
    losses: int
    checkpoint: Json | None


def _claim(session: Session, row: _ClaimRow) -> Claim:
    return Claim(
        attempt_id=AttemptId(row.id, row.attempt),
        job=JobInfo(
            id=row.id,
            task=row.task,
            queue=row.queue,
            priority=row.priority,
            payload_json=bytes(row.payload),
            created_at=row.created_at,
            schedule_at=row.schedule_at,
            timeout=row.timeout,
            metadata=msgspec.json.decode(row.metadata, type=dict[str, Scalar]) if row.metadata is not None else {},
            max_retries=row.max_retries,
            failures=row.failures,
            worker_id=session.worker_id,
        ),
        session=session.id,
        epoch=row.epoch,
        queued_at=row.queued_at,
        started_at=row.started_at,
        backoff=_backoff(bytes(row.backoff)),
        crashes=row.crashes,
        losses=row.losses,
        checkpoint=bytes(row.checkpoint) if row.checkpoint is not None else None,
    )


@lru_cache(maxsize=256)
def _backoff(text: bytes) -> Backoff:
    """Return the backoff, decoded once for all jobs that share it: most do."""
    return msgspec.json.decode(text, type=Backoff)


class _Ending(AttemptRow, frozen=True, omit_defaults=True, kw_only=True):
    """One settlement as settle.sql reads it."""

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
    claim, outcome, verdict, output = settlement.claim, settlement.outcome, settlement.verdict, settlement.output
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
        line=output.line if output is not None else None,
        lines=output.lines if output is not None else None,
        said=msgspec.Raw(output.body) if output is not None else None,
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
