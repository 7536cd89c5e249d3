"""The store, PostgreSQL: one Protocol for each of its callers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import msgspec

from taskd.domain.band import Credit
from taskd.domain.config import Version
from taskd.domain.explain.situation import JobSnapshot, Queue
from taskd.domain.fencing import Claim, Delivery, Dispatch, LeaderRow, Note, Session, Suspect, Term
from taskd.domain.job import (
    AttemptId,
    Counts,
    Depths,
    Ended,
    Job,
    JobFilter,
    JobSpec,
    JobStatus,
    Page,
    Stretch,
    Submitted,
)
from taskd.domain.outcome import Outcome
from taskd.domain.output import Chunk, LogPosition, Output, StoredChunk
from taskd.domain.retry import Verdict
from taskd.domain.schedule import Decision, Due, Edition, Mark, Plan, Schedule
from taskd.domain.token import Keyring


class Intake(Protocol):
    """For the API: jobs come in."""

    async def submit(self, spec: JobSpec) -> Submitted:
        """Store one job durably, sharing its INSERT with whatever else is waiting.

        Raises StoreUnavailable within the deadline, Rejected if PostgreSQL refuses this very job.
        """
        ...

    async def submit_many(self, specs: Sequence[JobSpec]) -> list[Submitted]:
        """Store all of `specs` durably, or none; the answers are in the order of the specs."""
        ...


class Wakes(Protocol):
    """For the doorbell: jobs that came by another way than the API."""

    def wakes(self) -> AsyncIterator[None]:
        """One item after jobs were committed, and one after every reconnect. Never ends, never raises."""
        ...


class Cancels(Protocol):
    """For the API: jobs that nobody wants any more."""

    async def cancel(self, job_ids: Collection[int]) -> set[int]:
        """pending, queued or running -> cancelled, durably; the ids of the jobs that were.

        The others are final by then, or unknown. The holder of a running one is fenced off at once.
        """
        ...


class Retries(Protocol):
    """For the API: jobs that somebody wants to try again."""

    async def retry(self, job_ids: Collection[int]) -> dict[int, int]:
        """failed or cancelled -> a new pending job each, durably and once; the new ids by the old ones.

        What is missing from the answer is not final yet, completed, unknown, or was retried before.
        """
        ...


class Overview(Protocol):
    """For the API: what there is to see. Reads only."""

    async def ping(self) -> None:
        """Return if PostgreSQL answers."""
        ...

    async def job(self, job_id: int) -> Job | None:
        """One job, live or finished, with its attempts; None if there is none."""
        ...

    async def jobs(self, wanted: JobFilter) -> Page:
        """A page of jobs, newest first, without their attempts."""
        ...

    async def ended(self, wanted: Ended) -> Stretch:
        """Those of a stretch of finished jobs that are wanted, with their attempts."""
        ...

    async def cancellable(self, wanted: JobFilter) -> list[int]:
        """The ids of a page of live jobs, newest first."""
        ...

    async def retriable(self, wanted: JobFilter) -> list[int]:
        """The ids of a page of jobs that ended as `wanted.status` and were not retried yet, newest first."""
        ...

    async def final(self, job_ids: Collection[int]) -> set[int]:
        """Those of `job_ids` that are final by now or do not exist: nobody needs to wait for them any longer."""
        ...

    async def counts(self) -> Counts:
        """The cluster's counters."""
        ...

    async def depths(self, queues: Collection[str] | None, limit: int) -> Depths:
        """The live jobs of each of these queues (None: of all), for the `limit` with most of them."""
        ...

    async def sessions(self) -> list[Session]:
        """The sessions of the workers that are alive by PostgreSQL's clock."""
        ...


class Explained(Protocol):
    """For `explain`: a job, and what it may wait for. Reads only, by index, and none further than a bound."""

    async def subject(self, job_id: int) -> JobSnapshot | None:
        """The job, live or finished; None if there is none."""
        ...

    async def queue(self, job: JobSnapshot, ageing: float) -> Queue:
        """What a waiting job finds before it."""
        ...


class Terms(Protocol):
    """For elections: who leads each shard, as PostgreSQL sees it. It mints the epochs."""

    async def current(self) -> list[LeaderRow]:
        """The leader rows, by shard; a shard that was never led has none."""
        ...

    async def take_over(
        self,
        holder: UUID,
        instance_id: str,
        etcd_revision: int | None,
        stale_after: float,
        *,
        shard: int = 0,
        shards: int = 1,
    ) -> Term | None:
        """Become leader of one of `shards` shards with its next epoch, or None if that is not allowed.

        Allowed when `etcd_revision` (the create_revision with which the election was won) is higher than the row's, or when
        the row was not renewed for `stale_after` seconds. A lock that a paused predecessor holds is broken.
        """
        ...

    async def renew(self, term: Term, dispatched: int) -> None:
        """Extend the term and add `dispatched` jobs to the leader's count. Raises NotLeader when the term is over."""
        ...

    async def resign(self, term: Term) -> None:
        """Let anybody take over at once. Does nothing if the term is already over."""
        ...


class DueBatch(msgspec.Struct, frozen=True):
    """What one dispatch statement moved, and when the next job becomes due (seconds from now; None: none is waiting)."""

    dispatches: list[Dispatch]
    next_due: float | None


class DueJobs(Protocol):
    """For the leader's dispatcher."""

    async def dispatch(self, term: Term, credit: Sequence[Credit], ageing: float) -> DueBatch:
        """pending -> queued for the best due jobs, as many as the credit of their queue and band allows. Raises NotLeader.

        Queues of other shards than the term's are left alone.
        Best: by effective priority (priority plus one per `ageing` seconds of waiting), then schedule_at, then id.
        """
        ...

    async def unclaimed(self, term: Term, after: float, limit: int, skip: int = 0) -> list[Dispatch]:
        """The shard's jobs queued for more than `after` seconds that nobody claimed, oldest first, without the first `skip`."""
        ...

    async def reoffer(self, term: Term, lost: Sequence[Dispatch]) -> int:
        """queued -> pending for those dispatches that are still current; how many were. Raises NotLeader."""
        ...


class Reaped(msgspec.Struct, frozen=True):
    """How many jobs of dead sessions went back to pending, and how many failed because they had lost too many workers alone."""

    restarted: int
    failed: int


class Upkeep(Protocol):
    """For the leader's reaper."""

    async def end_expired(self, term: Term, before: datetime | None) -> tuple[list[str], datetime]:
        """End the sessions whose lease ran out `before` then; their workers' ids, and the `before` for the next call.

        The times are PostgreSQL's. None ends nothing: the first call of a term, or after a gap, only asks for the time.
        Raises NotLeader.
        """
        ...

    async def free_jobs(self, term: Term, lone_loss_limit: int) -> Reaped:
        """Free the running jobs of ended sessions; those that lost so many workers while they ran alone fail.

        Raises NotLeader.
        """
        ...

    async def forget_sessions(self, term: Term) -> None:
        """Delete what is left of sessions that ended long ago."""
        ...

    async def forget_notes(self, term: Term) -> None:
        """Delete the notes of jobs that are no longer live."""
        ...


class Pruned(msgspec.Struct, frozen=True):
    """One page of finished jobs: how many it had, how many were old and are deleted, and the last id."""

    deleted: int
    seen: int
    last: int


class History(Protocol):
    """For the leader's pruner."""

    async def prune(self, term: Term, status: JobStatus, keep: float, after: int, limit: int) -> Pruned:
        """Delete those of a page of jobs that ended as `status` more than `keep` seconds ago.

        The page are the first `limit` of them with an id higher than `after`. Raises NotLeader.
        """
        ...

    async def forget_logs(self, term: Term, after: int, limit: int) -> int | None:
        """Delete the output in a page that no job has any more; where the next page begins, None: there is none.

        Raises NotLeader.
        """
        ...


class Look(NamedTuple):
    """The schedules that are due `now`, by PostgreSQL's clock; the seconds until the next one is (None: there is none), whether
    a tick waits for an earlier job, and whether there are schedules at all."""

    now: datetime
    due: list[Due]
    next_in: float | None
    waiting: bool
    some: bool


class Fired(NamedTuple):
    """How many ticks got a job, wait for an earlier one, and were skipped because of one. `left`: schedules about which nothing
    was decided, because somebody changed them or has them locked."""

    jobs: int
    waiting: int
    skipped: int
    left: tuple[Edition, ...] = ()


class Closed(NamedTuple):
    """How many ticks of a page were closed, the last one that it had, and whether there may be more behind it."""

    ticks: int
    last: Mark
    more: bool


class Ticks(Protocol):
    """For the leader of shard 0: firing schedules. No write waits for somebody who has a row locked: it leaves that out."""

    async def due(self, limit: int, without: Collection[Edition]) -> Look:
        """Schedules whose next tick has come or was not worked out yet, without some. A read."""
        ...

    async def rework(self, term: Term) -> None:
        """Let the next ticks of schedules in time zones be worked out anew, as zones change. Raises NotLeader."""
        ...

    async def fire(self, term: Term, decisions: Sequence[Decision]) -> Fired:
        """Make the jobs of ticks that nobody decided before, durably, each once; a schedule that was changed meanwhile is left
        alone. Raises NotLeader."""
        ...

    async def fire_waiting(self, term: Term, limit: int) -> int:
        """Make the jobs of waiting ticks whose schedule has no live job any more; how many. Raises NotLeader."""
        ...

    async def close(self, term: Term, after: Mark, limit: int) -> Closed:
        """Close those of a page of open ticks, live jobs or not, whose jobs have ended. Raises NotLeader."""
        ...

    async def forget(self, term: Term, keep: float, limit: int) -> int:
        """Delete a page of ticks that were decided more than `keep` seconds ago and are over, and those that wait although
        their schedule is gone; how many. Raises NotLeader."""
        ...


class Schedules(Protocol):
    """For the API: looks at schedules, and changes them: those of the given `queues` only (None: of all)."""

    async def page(self, after: str, queues: Collection[str] | None, limit: int) -> tuple[list[Schedule], bool]:
        """The schedules of these queues (None: of all) with names later than `after`, by name, and whether there are more."""
        ...

    async def one(self, name: str) -> Schedule | None:
        """One schedule with its last ticks; None if there is none."""
        ...

    async def put(self, plan: Plan, *, replace: bool, queues: Collection[str] | None = None) -> bool | None:
        """Store a schedule; True if it is new, False if it replaced another one of its name.

        None if nothing was done: there is one, which may not be replaced, is of another queue, or is the same.
        """
        ...

    async def remove(self, name: str, queues: Collection[str] | None = None) -> bool:
        """Remove one; False if there is none."""
        ...

    async def pause(self, name: str, who: str, queues: Collection[str] | None = None) -> None:
        """Stop one, unless it is stopped."""
        ...

    async def resume(self, name: str, queues: Collection[str] | None = None) -> None:
        """Let one go on from now, if it is stopped."""
        ...


class LiveStore(Protocol):
    """For the live configuration: every version that ever was."""

    async def latest(self) -> Version:
        """The version that counts; version 0 if nothing was ever set."""
        ...

    async def history(self, before: int, limit: int) -> list[Version]:
        """Versions lower than `before`, newest first."""
        ...

    async def since(self, key: str) -> Version | None:
        """The version since which a key has the value that it has now; None if it was never set."""
        ...

    async def append(self, made_from: Version, *, who: str, what: str, values: dict[str, Any]) -> Version | None:
        """Add a version; None if somebody else was faster and `made_from` is not the latest any more."""
        ...


class LiveEditor(Protocol):
    """For the API: looks at the live configuration, and changes it. All raise StoreUnavailable."""

    async def latest(self) -> Version:
        """The version that counts."""
        ...

    async def history(self, before: int, limit: int) -> list[Version]:
        """Versions lower than `before`, newest first."""
        ...

    async def since(self, key: str) -> Version | None:
        """The version since which a key has the value that it has now; None if it was never set."""
        ...

    async def set(self, key: str, value: object, who: str) -> Version:
        """Set one key. Raises InvalidLiveValue."""
        ...

    async def unset(self, key: str, who: str) -> Version:
        """Let the processes' own settings decide again; the latest version if the key is not set. Raises InvalidLiveValue."""
        ...

    async def rollback(self, version: int, who: str) -> Version:
        """Make a new version with the values of an old one. Raises InvalidLiveValue if there is none such."""
        ...


class Tokens(Protocol):
    """For the API's door: who may come in."""

    async def keyring(self) -> Keyring:
        """The tokens that hold now."""
        ...


class Claims(Protocol):
    """For workers: the right to run, and its end."""

    async def claim(
        self, session: Session, deliveries: Sequence[Delivery], *, again: bool = False, alone: bool = False
    ) -> list[Claim]:
        """queued -> running for those deliveries that are current. Raises SessionLost if the session is over.

        `again` says that this was tried before and the answer was lost: claims that it made come back as well. Suspects are
        claimed only `alone`: then nothing else may be claimed for the session until they have ended.
        """
        ...

    async def suspects(self, deliveries: Sequence[Delivery]) -> list[Suspect]:
        """Those of `deliveries` that are current and whose jobs only run alone."""
        ...

    async def put_off(self, session: Session, suspect: Suspect, delay: float) -> bool:
        """queued -> pending, due again after `delay` seconds; False if the dispatch is no longer current."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> set[AttemptId]:
        """Record how attempts ended; those that were still the claim's own.

        What is missing from the answer was fenced off: the job was cancelled, or the claim had been lost before.
        """
        ...

    async def outcomes(self, attempts: Collection[AttemptId]) -> dict[AttemptId, str]:
        """Return the outcomes of those attempts that ended their job: "cancelled", say, or "completed"."""
        ...


class Settlement(msgspec.Struct, frozen=True):
    """One attempt's end: what happened, and what follows."""

    claim: Claim
    outcome: Outcome
    verdict: Verdict
    #: Whether the job may have a note, which its end deletes.
    noted: bool = False
    #: The last progress (JSON) that was heard of; it may not be in the note yet.
    progress: bytes | None = None
    #: What it has logged and printed, of which nothing is stored yet.
    said: Chunk | None = None


class Notes(Protocol):
    """For workers: what running attempts say of themselves."""

    async def write(self, notes: Sequence[Note]) -> set[AttemptId]:
        """Write these durably, in one statement; the attempts whose claim still held.

        What is missing from the answer was fenced off, and changed nothing.
        """
        ...


class Logs(Protocol):
    """For workers: what attempts log and print."""

    async def write(self, outputs: Sequence[Output]) -> set[AttemptId]:
        """Store these in one statement; the attempts whose claim still held or whose job was cancelled.

        What is missing from the answer was fenced off, and changed nothing.
        """
        ...


class Transcripts(Protocol):
    """For the API: what attempts have logged and printed."""

    async def read(self, job_id: int, attempt: int | None, after: LogPosition, limit: int) -> list[StoredChunk]:
        """At most `limit` chunks that begin after a place, in their order; of one attempt, or of all."""
        ...

    async def of(self, job_ids: Collection[int]) -> dict[int, list[StoredChunk]]:
        """All chunks of these jobs, by job; of the first ones only, if those are large."""
        ...


class Gone(NamedTuple):
    """A claim that no longer holds. `outcome`: how its attempt ended the job, as "cancelled" or, by its own transaction,
    "completed"; None if the claim was lost (or settled a moment ago)."""

    job_id: int
    attempt: int
    outcome: str | None


class Sessions(Protocol):
    """For workers: staying alive in PostgreSQL's eyes."""

    async def open(self, session: Session, ttl: float) -> bool:
        """Begin a session; False if another one holds the worker's id."""
        ...

    async def holder(self, worker_id: str) -> tuple[Session, float] | None:
        """The session that holds this worker id and its lease's remaining seconds; None if the id is free."""
        ...

    async def heartbeat(
        self, session: Session, ttl: float, claims: Sequence[AttemptId], slots: int | None = None
    ) -> set[Gone]:
        """Extend the lease, say how many `slots` there are now, if that changed; those of the given claims
        that are no longer this session's.

        Raises SessionLost if the session is dead.
        """
        ...

    async def end(self, session_id: UUID) -> bool:
        """End a session that is over (drained, or its process is gone); False if it already was.

        The leader frees what jobs it still has.
        """
        ...
