"""Jobs that tasks submit inside `app.testing()`: recorded, and answered for in place of the schedulers."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, NamedTuple

from taskd.client import ClientError
from taskd.client.requests import ClientRequest
from taskd.domain.errors import Fail
from taskd.domain.job import FINAL, JobStatus


class Child(NamedTuple):
    """A job that a task has submitted: not run, only written down. `options` are fields of POST /jobs, such as `queue`."""

    task: str
    payload: Any
    options: Mapping[str, Any]


class RecordedJobs:
    """The jobs of one bench, by id.

    `results` has, by the name of a task, what its jobs come to: a value, an exception, or a function that is called with the
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
        """Record one job (the fields of POST /jobs) in `children`, or find the job that has its dedupe_key; the job."""
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
        """Return the job if it is final. Raises TimeoutError for any other: it would stay as it is."""
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
        """Return the fields of the job's end, or none if the test does not say what its task comes to."""
        if task not in self._results:
            return {}
        found = self._results[task]
        if callable(found):
            try:
                found = found(**payload) if isinstance(payload, dict) else found(payload)
            except Exception as error:  # noqa: BLE001 - a failed child is an answer, not the end of the test
                found = error
        if isinstance(found, Exception):
            text = str(found) if isinstance(found, Fail) else f"{type(found).__name__}: {found}"
            return {"status": JobStatus.FAILED.value, "error": text}
        return {"status": JobStatus.COMPLETED.value, "result": json.loads(json.dumps(found, allow_nan=False))}


class BenchConnection:
    """A Connection whose clients answer from a bench's recorded jobs. Nothing that they do reaches the network."""

    def __init__(self, jobs: RecordedJobs, children: list[Child]) -> None:
        self.blocking = BlockingAnswers(jobs, children)
        self.asynchronous = AsyncAnswers(self.blocking)

    @contextlib.contextmanager
    def standing_in(self) -> Iterator[None]:
        """Take the place of every App's Connection, in this context and wherever else in the process no bench is known.

        A thread that the task's code starts by itself has no context, and its jobs must not reach a real cluster either.
        """
        token = _stand_in.set(self)
        _at_work.append(self)
        try:
            yield
        finally:
            _at_work.remove(self)
            _stand_in.reset(token)


class BlockingAnswers:
    """The methods of `taskd.client.Client` that submitters and handles call."""

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
        """Return the final job; a job that is not raises TimeoutError at once, whatever `seconds` says."""
        return self._jobs.final(job_id)

    def cancel(self, job_id: int | str) -> dict[str, Any]:
        """Cancel the job."""
        return self._jobs.cancel(job_id)


class AsyncAnswers:
    """The same, awaited: the methods of `taskd.client.AsyncClient`."""

    def __init__(self, answers: BlockingAnswers) -> None:
        self._answers = answers

    async def ask(self, request: ClientRequest) -> dict[str, Any]:
        """Answer POST /jobs and POST /jobs/batch."""
        return self._answers.ask(request)

    async def job(self, job_id: int | str) -> dict[str, Any]:
        """Return the job."""
        return self._answers.job(job_id)

    async def wait(self, job_id: int | str, seconds: float | None = None) -> dict[str, Any]:
        """Return the final job, as the blocking one does."""
        return self._answers.wait(job_id, seconds)

    async def cancel(self, job_id: int | str) -> dict[str, Any]:
        """Cancel the job."""
        return self._answers.cancel(job_id)


_stand_in: ContextVar[BenchConnection | None] = ContextVar("taskd_bench", default=None)
#: The connections of all attempts that benches of this process run now, the latest last. Changed in single steps.
_at_work: list[BenchConnection] = []


def stand_in() -> BenchConnection | None:
    """Return the bench's connection while a bench of this process runs a task, else None.

    Code without a context of its own, such as that of a new thread, gets the one that began last.
    """
    found = _stand_in.get()
    if found is not None:
        return found
    return next(iter(_at_work[-1:]), None)


def by_name(results: Mapping[Any, Any]) -> dict[str, Any]:
    """Return `results` with names of tasks for keys. Raises TypeError for a key that is neither a task nor a text."""
    return {_name(key): value for key, value in results.items()}


def _name(key: Any) -> str:
    name = key if isinstance(key, str) else getattr(key, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"app.testing(results=...) has tasks or their names as keys, not {key!r}")
    return name
