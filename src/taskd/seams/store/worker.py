"""The store for workers: sessions, claims and their ends, and what running attempts leave."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from taskd.domain.fencing import Claim, Delivery, Note, Session, Suspect
from taskd.domain.job import AttemptId
from taskd.domain.outcome import Outcome
from taskd.domain.output import Chunk, Output
from taskd.domain.retry import Verdict


class LostClaim(NamedTuple):
    """A claim that no longer holds.

    `outcome` is how its attempt ended the job: "cancelled", or "completed" by its own transaction. None means that the claim
    was lost, or settled a moment ago.
    """

    job_id: int
    attempt: int
    outcome: str | None


class Sessions(Protocol):
    """Keeps workers' sessions alive. A session is alive while its lease is extended."""

    async def open(self, session: Session, ttl: float) -> bool:
        """Begin a session; return False if another session holds the worker's id."""
        ...

    async def holder(self, worker_id: str) -> tuple[Session, float] | None:
        """Return the session that holds this worker id and its lease's remaining seconds; None if the id is free."""
        ...

    async def heartbeat(
        self, session: Session, ttl: float, claims: Sequence[AttemptId], slots: int | None = None
    ) -> set[LostClaim]:
        """Extend the lease and store the number of `slots`, if given. Raises SessionLost if the session is dead.

        Returns those of the given claims that are no longer this session's.
        """
        ...

    async def end(self, session_id: UUID) -> bool:
        """End a session whose worker is drained or gone; return False if it had ended before.

        The leader frees the jobs that it still has.
        """
        ...


class Settlement(msgspec.Struct, frozen=True):
    """One attempt's end: its outcome, and what follows for the job."""

    claim: Claim
    outcome: Outcome
    verdict: Verdict
    #: Whether the job may have a note, which its end deletes.
    noted: bool = False
    #: The last progress (JSON) that the task reported; it may not be in the note yet.
    progress: bytes | None = None
    #: All output of the attempt, if none of it is stored yet.
    output: Chunk | None = None


class Claims(Protocol):
    """Hands out the right to run an attempt, and records its end."""

    async def claim(
        self, session: Session, deliveries: Sequence[Delivery], *, again: bool = False, alone: bool = False
    ) -> list[Claim]:
        """queued -> running for those deliveries that are current. Raises SessionLost if the session is over.

        `again` means that an earlier try's answer was lost: claims that it made come back as well. Suspects are claimed only
        `alone`: then nothing else may be claimed for the session until they have ended.
        """
        ...

    async def suspects(self, deliveries: Sequence[Delivery]) -> list[Suspect]:
        """Return those of `deliveries` that are current and whose jobs only run alone."""
        ...

    async def put_off(self, session: Session, suspect: Suspect, delay: float) -> bool:
        """queued -> pending, due again after `delay` seconds; return False if the dispatch is no longer current."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> set[AttemptId]:
        """Record the ends of attempts; return the attempts whose claim still held.

        An attempt that is missing was fenced off: the job was cancelled, or the claim had been lost before.
        """
        ...

    async def outcomes(self, attempts: Collection[AttemptId]) -> dict[AttemptId, str]:
        """Return the outcomes ("cancelled", "completed") of those attempts that ended their job."""
        ...


class NoteStore(Protocol):
    """Stores the progress and checkpoints of running attempts."""

    async def write(self, notes: Sequence[Note]) -> set[AttemptId]:
        """Store these durably, in one statement; return the attempts whose claim still held.

        An attempt that is missing was fenced off, and changed nothing.
        """
        ...


class LogStore(Protocol):
    """Stores the output of attempts: what they log and print."""

    async def write(self, outputs: Sequence[Output]) -> set[AttemptId]:
        """Store these in one statement; return the attempts whose output was taken.

        Output is taken while its claim holds, and after the attempt has ended its job by a cancel or its own transaction. An
        attempt that is missing was fenced off, and changed nothing.
        """
        ...
