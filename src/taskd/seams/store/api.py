"""The store for the API: jobs are submitted, cancelled, retried and read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from taskd.domain.explain.situation import JobSnapshot, Queue
from taskd.domain.fencing import Session
from taskd.domain.job import Counts, Depths, Ended, Job, JobFilter, JobSpec, Page, Stretch, Submitted
from taskd.domain.output import LogPosition, StoredChunk
from taskd.domain.token import Keyring


class Intake(Protocol):
    """Stores submitted jobs."""

    async def submit(self, spec: JobSpec) -> Submitted:
        """Store one job durably, in one INSERT with the other jobs that are waiting.

        Raises StoreUnavailable within the deadline: a job that had not been sent by then is never stored. Raises Rejected if
        PostgreSQL refuses this very job.
        """
        ...

    async def submit_many(self, specs: Sequence[JobSpec]) -> list[Submitted]:
        """Store all of `specs` durably, or none; the answers are in the order of the specs."""
        ...


class Cancels(Protocol):
    """Cancels jobs."""

    async def cancel(self, job_ids: Collection[int]) -> set[int]:
        """pending, queued or running -> cancelled, durably; return the ids of the jobs that were cancelled.

        The others are final by then, or unknown. The claim of a running job is fenced off at once.
        """
        ...


class Retries(Protocol):
    """Submits finished jobs once more."""

    async def retry(self, job_ids: Collection[int]) -> dict[int, int]:
        """failed or cancelled -> a new pending job each, durably and once; return the new ids by the old ones.

        An id that is missing from the answer is not final yet, completed, unknown, or was retried before.
        """
        ...


class Reads(Protocol):
    """Reads jobs, counters and workers. Changes nothing."""

    async def ping(self) -> None:
        """Return if PostgreSQL answers."""
        ...

    async def job(self, job_id: int) -> Job | None:
        """Return one job, live or finished, with its attempts; None if there is none."""
        ...

    async def jobs(self, wanted: JobFilter) -> Page:
        """Return a page of jobs, newest first, without their attempts."""
        ...

    async def ended(self, wanted: Ended) -> Stretch:
        """Return the wanted jobs of a stretch of history, with their attempts."""
        ...

    async def cancellable(self, wanted: JobFilter) -> list[int]:
        """Return the ids of a page of live jobs, newest first."""
        ...

    async def retriable(self, wanted: JobFilter) -> list[int]:
        """Return the ids of a page of jobs that ended as `wanted.status` and were not retried yet, newest first."""
        ...

    async def final(self, job_ids: Collection[int]) -> set[int]:
        """Return those of `job_ids` that are final by now or do not exist: there is nothing left to wait for."""
        ...

    async def counts(self) -> Counts:
        """Return the cluster's counters."""
        ...

    async def depths(self, queues: Collection[str] | None, limit: int) -> Depths:
        """Return the numbers of live jobs in these queues (None: in all), for the `limit` queues with most of them."""
        ...

    async def sessions(self) -> list[Session]:
        """Return the sessions of the workers that are alive by PostgreSQL's clock."""
        ...


class Explained(Protocol):
    """Reads what `taskd explain` shows of a job and of what it waits for. Each read is by index and bounded."""

    async def subject(self, job_id: int) -> JobSnapshot | None:
        """Return the job, live or finished; None if there is none."""
        ...

    async def queue(self, job: JobSnapshot, ageing: float) -> Queue:
        """Return what stands before a waiting job: workers, running jobs, and jobs that go first."""
        ...


class LogReader(Protocol):
    """Reads the output of attempts: what they have logged and printed."""

    async def read(self, job_id: int, attempt: int | None, after: LogPosition, limit: int) -> list[StoredChunk]:
        """Return at most `limit` chunks that begin after a place, in their order; of one attempt, or of all (None)."""
        ...

    async def of(self, job_ids: Collection[int]) -> dict[int, list[StoredChunk]]:
        """Return all chunks of these jobs, by job; of the first jobs only, if their output is large."""
        ...


class Tokens(Protocol):
    """Reads the API's tokens."""

    async def keyring(self) -> Keyring:
        """Return the tokens that are valid now."""
        ...
