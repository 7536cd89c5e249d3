"""A handle: a job that was submitted, to ask about, to wait for, to cancel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

from taskd.app.connection import Reach
from taskd.app.results import Results
from taskd.client import ClientError
from taskd.client.documents import JobDocument
from taskd.domain.errors import JobCancelled, JobFailed
from taskd.domain.job import JobStatus

R = TypeVar("R")


class _Known(Generic[R]):
    """What both kinds of handles are: an id, and how to read what the schedulers say of its job."""

    __slots__ = ("_connection", "_results", "duplicate", "id")

    def __init__(self, job_id: int, results: Results, connection: Reach, *, duplicate: bool = False) -> None:
        self.id = job_id
        self.duplicate = duplicate
        self._results = results
        self._connection = connection

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of job {self.id}>"

    def _result(self, job: Mapping[str, Any], timeout: float | None) -> R:
        self._final(job, timeout)
        told = (self.id, job.get("error"), job["attempts"])
        if job["status"] == JobStatus.FAILED:
            raise JobFailed(*told)
        if job["status"] == JobStatus.CANCELLED:
            raise JobCancelled(*told)
        return cast(R, self._results.read(job.get("result")))

    def _final(self, job: Mapping[str, Any], timeout: float | None) -> JobStatus:
        status = JobStatus(job["status"])
        if not status.final:
            raise TimeoutError(f"job {self.id} is still {status} after {timeout:g} seconds")
        return status


class Handle(_Known[R]):
    """A submitted job: `id` is its number. The methods are awaited.

    `duplicate` is True where the submit made no job, because an older one has its dedupe_key: that may have ended long ago.

    Each may raise `taskd.ClientError`; its `status` is 404 once the job is pruned, and None if no scheduler answers. `result`
    raises TypeError for a result that does not fit the annotation of the task.
    """

    __slots__ = ()

    async def job(self) -> JobDocument:
        """The whole job as GET /jobs/{id} shows it: a dict without the fields that have no value (`job.get("metadata")`)."""
        return cast(JobDocument, await self._connection.asynchronous.job(self.id))

    async def status(self) -> JobStatus:
        """Where the job stands: "pending", "queued", "running", "completed", "failed" or "cancelled"."""
        return JobStatus((await self.job())["status"])

    async def wait(self, timeout: float | None = None) -> JobStatus:
        """Its final status, once it has one. Raises TimeoutError after `timeout` seconds (None: never); the job goes on."""
        return self._final(await self._connection.asynchronous.wait(self.id, timeout), timeout)

    async def result(self, timeout: float | None = None) -> R:
        """What the task returned, once it has, as its annotation says.

        Raises JobFailed, JobCancelled, and TimeoutError after `timeout` seconds (None: never); the job goes on.
        """
        return self._result(await self._connection.asynchronous.wait(self.id, timeout), timeout)

    async def cancel(self) -> bool:
        """Cancel the job, whatever it is doing; False if it was too late, because it had completed or failed."""
        try:
            await self._connection.asynchronous.cancel(self.id)
        except ClientError as error:
            return _too_late(error)
        return True


class SyncHandle(_Known[R]):
    """A submitted job for code without an event loop: as `Handle`, but the methods block. Threads may share it."""

    __slots__ = ()

    def job(self) -> JobDocument:
        """The whole job as GET /jobs/{id} shows it: a dict without the fields that have no value (`job.get("metadata")`)."""
        return cast(JobDocument, self._connection.blocking.job(self.id))

    def status(self) -> JobStatus:
        """Where the job stands: "pending", "queued", "running", "completed", "failed" or "cancelled"."""
        return JobStatus(self.job()["status"])

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Its final status, once it has one. Raises TimeoutError after `timeout` seconds (None: never); the job goes on."""
        return self._final(self._connection.blocking.wait(self.id, timeout), timeout)

    def result(self, timeout: float | None = None) -> R:
        """What the task returned, once it has, as its annotation says.

        Raises JobFailed, JobCancelled, and TimeoutError after `timeout` seconds (None: never); the job goes on.
        """
        return self._result(self._connection.blocking.wait(self.id, timeout), timeout)

    def cancel(self) -> bool:
        """Cancel the job, whatever it is doing; False if it was too late, because it had completed or failed."""
        try:
            self._connection.blocking.cancel(self.id)
        except ClientError as error:
            return _too_late(error)
        return True


def _too_late(error: ClientError) -> bool:
    """False; raises `error` itself if it says something else."""
    if "job_status" not in error.problem:
        raise error
    return False
