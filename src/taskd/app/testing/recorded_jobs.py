"""Jobs that tasks submit inside `app.testing()`: recorded, with clients that answer for them in place of the schedulers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from taskd.client import ClientError
from taskd.client.requests import ClientRequest
from taskd.domain.errors import Fail
from taskd.domain.job import FINAL, JobStatus


class Child(NamedTuple):
    """A job that a task has submitted: recorded, not run. `options` are fields of POST /jobs, such as `queue`."""

    task: str
    payload: Any
    options: Mapping[str, Any]


class RecordedJobs:
    """The jobs of one bench, by id.

    `results` has, by the name of a task, the result of its jobs: a value, an exception, or a function that is called with the
    payload's arguments and returns or raises. A job of any other task stays pending until it is cancelled.
    """

    def __init__(self, results: Mapping[str, Any]) -> None:
        self._results = results
        self._jobs: dict[int, dict[str, Any]] = {}
        self._keys: dict[str, int] = {}
        self._ids = itertools.count(1)

    def next_id(self) -> int:
        """Return the next number, for an attempt's own job or for a child."""
        return next(self._ids)

    def submit(self, document: Mapping[str, Any], children: list[Child]) -> dict[str, Any]:
        """Record one job (the fields of POST /jobs) in `children` and return it; return the older job with its dedupe_key."""
        key = document.get("dedupe_key")
        if key is not None and key in self._keys:
            return self._jobs[self._keys[key]] | {"duplicate": True}
        fields = {name: value for name, value in document.items() if name not in ("task", "payload", "parent_id")}
        children.append(Child(document["task"], document["payload"], fields))
        job = {"id": self.next_id(), "status": JobStatus.PENDING.value, "attempts": [], **document}
        job |= self._end(document["task"], document["payload"])
        self._jobs[job["id"]] = job
        if key is not None:
            self._keys[key] = job["id"]
        return dict(job)

    def job(self, job_id: int | str) -> dict[str, Any]:
        """Return the job. Raises ClientError with status 404 for an id that this bench has not given."""
        job = self._jobs.get(int(job_id))
        if job is None:
            raise ClientError(f"inside app.testing() there is no job {job_id}", HTTPStatus.NOT_FOUND)
        return dict(job)

    def final(self, job_id: int | str) -> dict[str, Any]:
        """Return the job if it is final. Raises TimeoutError for any other, because a recorded job does not change."""
        job = self.job(job_id)
        if job["status"] not in FINAL:
            raise TimeoutError(
                f"job {job_id} of the task {job['task']!r} stays {job['status']}: app.testing() does not run what a task"
                " submits; app.testing(results={...}) says what the jobs of a task come to"
            )
        return job

    def cancel(self, job_id: int | str) -> dict[str, Any]:
        """Cancel the job. Raises ClientError as a scheduler does: 409 for one that completed or failed."""
        job = self.job(job_id)
        if job["status"] in (JobStatus.COMPLETED, JobStatus.FAILED):
            message = f"job {job_id} is {job['status']}"
            raise ClientError(message, HTTPStatus.CONFLICT, {"job_status": job["status"]})
        self._jobs[int(job_id)]["status"] = JobStatus.CANCELLED.value
        return self.job(job_id)

    def _end(self, task: str, payload: Any) -> dict[str, Any]:
        """Return the fields of the job's end; none for a task without a result in `results`."""
        if task not in self._results:
            return {}
        result = self._results[task]
        if callable(result):
            try:
                result = result(**payload) if isinstance(payload, dict) else result(payload)
            except Exception as error:  # noqa: BLE001 - a failed child is an answer, not the end of the test
                result = error
        if isinstance(result, Exception):
            text = str(result) if isinstance(result, Fail) else f"{type(result).__name__}: {result}"
            return {"status": JobStatus.FAILED.value, "error": text}
        return {"status": JobStatus.COMPLETED.value, "result": json.loads(json.dumps(result, allow_nan=False))}


class BenchClients:
    """Implements `taskd.app.client_pool.Clients` with a bench's recorded jobs. Nothing reaches the network."""

    def __init__(self, jobs: RecordedJobs, children: list[Child]) -> None:
        self.blocking = BenchClient(jobs, children)
        self.asynchronous = AsyncBenchClient(self.blocking)


class BenchClient:
    """Answers requests from recorded jobs. What a task submits is added to `children`."""

    def __init__(self, jobs: RecordedJobs, children: list[Child]) -> None:
        self._jobs = jobs
        self._children = children

    def ask(self, request: ClientRequest) -> dict[str, Any]:
        """Answer POST /jobs and POST /jobs/batch."""
        document = json.loads(request.body or b"null")
        if request.path == "/jobs/batch":
            return {"ids": [self._jobs.submit(job, self._children)["id"] for job in document["jobs"]]}
        return self._jobs.submit(document, self._children)

    def job(self, job_id: int | str) -> dict[str, Any]:
        """Return the job."""
        return self._jobs.job(job_id)

    def wait(self, job_id: int | str, seconds: float | None = None) -> dict[str, Any]:
        """Return the final job. Raises TimeoutError at once for any other, whatever `seconds` says."""
        return self._jobs.final(job_id)

    def cancel(self, job_id: int | str) -> dict[str, Any]:
        """Cancel the job."""
        return self._jobs.cancel(job_id)


class AsyncBenchClient:
    """A `BenchClient` whose methods are awaited."""

    def __init__(self, client: BenchClient) -> None:
        self._client = client

    async def ask(self, request: ClientRequest) -> dict[str, Any]:
        """Answer POST /jobs and POST /jobs/batch."""
        return self._client.ask(request)

    async def job(self, job_id: int | str) -> dict[str, Any]:
        """Return the job."""
        return self._client.job(job_id)

    async def wait(self, job_id: int | str, seconds: float | None = None) -> dict[str, Any]:
        """Return the final job."""
        return self._client.wait(job_id, seconds)

    async def cancel(self, job_id: int | str) -> dict[str, Any]:
        """Cancel the job."""
        return self._client.cancel(job_id)


def by_name(results: Mapping[Any, Any]) -> dict[str, Any]:
    """Return `results` with names of tasks for keys. Raises TypeError for a key that is neither a task nor a text."""
    return {_name(key): value for key, value in results.items()}


def _name(key: Any) -> str:
    name = key if isinstance(key, str) else getattr(key, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"app.testing(results=...) has tasks or their names as keys, not {key!r}")
    return name
