"""Handles of submitted jobs: to ask about a job, wait for it, cancel it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

from taskd.app.client_pool import Clients
from taskd.client import ClientError
from taskd.client.documents import JobDocument
from taskd.domain.errors import JobCancelled, JobFailed
from taskd.domain.job import JobStatus

T = TypeVar("T")


class _BaseHandle(Generic[T]):
    """The common part of both handles: the id, and the reading of the schedulers' answers."""

    __slots__ = ("_clients", "_read", "duplicate", "id")

    def __init__(self, job_id: int, read: Callable[[Any], T], clients: Clients, *, duplicate: bool = False) -> None:
        self.id = job_id
        self.duplicate = duplicate
        self._read = read
        self._clients = clients

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of job {self.id}>"

    def _result(self, job: Mapping[str, Any], timeout: float | None) -> T:
        self._final(job, timeout)
        details = (self.id, job.get("error"), job["attempts"])
        if job["status"] == JobStatus.FAILED:
            raise JobFailed(*details)
        if job["status"] == JobStatus.CANCELLED:
            raise JobCancelled(*details)
        return self._read(job.get("result"))

    def _final(self, job: Mapping[str, Any], timeout: float | None) -> JobStatus:
        status = JobStatus(job["status"])
        if not status.final:
            raise TimeoutError(f"job {self.id} is still {status} after {timeout:g} seconds")
        return status


class Handle(_BaseHandle[T]):
    """A submitted job: `id` is its number. The methods are awaited.

    `duplicate` is True where the submit made no job, because an older one has its dedupe_key: that may have ended long ago.

    Each may raise `taskd.ClientError`; its `status` is 404 once the job is pruned, and None if no scheduler answers. `result`
    raises TypeError for a result that does not fit the annotation of the task.
    """

    __slots__ = ()

    async def job(self) -> JobDocument:
        """Return the job as GET /jobs/{id} shows it: a dict without the fields that have no value (`job.get("metadata")`)."""
        return cast(JobDocument, await self._clients.asynchronous.job(self.id))

    async def status(self) -> JobStatus:
        """Return the job's status: "pending", "queued", "running", "completed", "failed" or "cancelled"."""
        return JobStatus((await self.job())["status"])

    async def wait(self, timeout: float | None = None) -> JobStatus:
        """Wait until the job is final; return its status.

        Raises TimeoutError after `timeout` seconds (None: never); the job goes on.
        """
        return self._final(await self._clients.asynchronous.wait(self.id, timeout), timeout)

    async def result(self, timeout: float | None = None) -> T:
        """Wait until the job is final; return the task's result, as its annotation says.

        Raises JobFailed, JobCancelled, and TimeoutError after `timeout` seconds (None: never); the job goes on.
        """
        return self._result(await self._clients.asynchronous.wait(self.id, timeout), timeout)

    async def cancel(self) -> bool:
        """Cancel the job, whatever its status; return False if it was too late, because it had completed or failed."""
        try:
            await self._clients.asynchronous.cancel(self.id)
        except ClientError as error:
            return _too_late(error)
        return True


class SyncHandle(_BaseHandle[T]):
    """A submitted job for code without an event loop: as `Handle`, but the methods block. Threads may share it."""

    __slots__ = ()

    def job(self) -> JobDocument:
        """Return the job as GET /jobs/{id} shows it: a dict without the fields that have no value (`job.get("metadata")`)."""
        return cast(JobDocument, self._clients.blocking.job(self.id))

    def status(self) -> JobStatus:
        """Return the job's status: "pending", "queued", "running", "completed", "failed" or "cancelled"."""
        return JobStatus(self.job()["status"])

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Wait until the job is final; return its status.

        Raises TimeoutError after `timeout` seconds (None: never); the job goes on.
        """
        return self._final(self._clients.blocking.wait(self.id, timeout), timeout)

    def result(self, timeout: float | None = None) -> T:
        """Wait until the job is final; return the task's result, as its annotation says.

        Raises JobFailed, JobCancelled, and TimeoutError after `timeout` seconds (None: never); the job goes on.
        """
        return self._result(self._clients.blocking.wait(self.id, timeout), timeout)

    def cancel(self) -> bool:
        """Cancel the job, whatever its status; return False if it was too late, because it had completed or failed."""
        try:
            self._clients.blocking.cancel(self.id)
        except ClientError as error:
            return _too_late(error)
        return True


def _too_late(error: ClientError) -> bool:
    """Return False if the job had ended otherwise; raise `error` if it says something else."""
    if "job_status" not in error.problem:
        raise error
    return False
