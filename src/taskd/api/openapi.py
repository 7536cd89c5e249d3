"""GET /openapi.json: the API's description (OpenAPI 3.1), made of the types that validate requests and render answers."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from taskd.api.bulk import MAX_PAGE, CancelSelection, RetrySelection, Selected
from taskd.api.documents import (
    AliveView,
    HealthView,
    LeaderView,
    LogsView,
    MetricsView,
    NextFires,
    ProblemView,
    QueuesView,
    Removed,
    SchedulersView,
    ScheduleView,
    Stored,
    WorkersView,
)
from taskd.api.history import Final, Instant
from taskd.api.idempotency import HEADER, MAX_KEY
from taskd.api.jobs import MAX_WAIT
from taskd.api.live import PAGE, LiveView, Rollback, Setting, Who
from taskd.api.plans import NewSchedule, ScheduleName, SchedulePlan
from taskd.api.schedules import Count
from taskd.api.transcripts import MAX_NUMBER
from taskd.domain.config import Version
from taskd.domain.explain.explanation import Explanation
from taskd.domain.job import MAX_ID, Job, JobStatus
from taskd.domain.scope import Scope
from taskd.domain.submission import Name, Submission
from taskd.domain.timeline import Stage
from taskd.settings import HttpSettings

JSON, NDJSON, PROBLEM = "application/json", "application/x-ndjson", "application/problem+json"
REF = "#/components/schemas/{name}"

Id = Annotated[int, Meta(ge=1, le=MAX_ID)]
Wait = Annotated[float, Meta(ge=0, le=MAX_WAIT)]
Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE)]
Versions = Annotated[int, Meta(ge=1, le=PAGE)]
AttemptNumber = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
LogCursor = Annotated[str, Meta(pattern=r"^[0-9]{1,10}\.[0-9]{1,10}$")]
Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY, pattern=r"^[!-~]+$")]

#: How the page groups the operations, by the first part of their path; the others are about the cluster.
GROUPS = {"jobs": "Jobs", "history": "Jobs", "schedules": "Schedules", "config": "Live configuration"}
#: What each error means, wherever it is answered.
PROBLEMS = {
    400: "The body is no JSON or no UTF-8, or the query string is not URL-encoded UTF-8",
    401: "A token is needed, or the one that was sent does not hold",
    403: "The token has not the scope for it, or is for other queues",
    404: "There is no such job or schedule",
    408: "The body did not arrive in time",
    409: "The job's status does not allow it, and `job_status` says what it is; or there is a schedule of that name",
    413: "The payload, the body or the batch is too large",
    415: "Another Content-Type than what is taken; Accept-Post lists that",
    422: "A field or parameter is unknown, of the wrong type, out of range or given twice; `errors` names each",
    429: "The token makes more requests than it may",
    503: "PostgreSQL did not answer in time. With `outcome_unknown` the request may have been carried out all the same",
}
#: What every operation that needs a scope may answer.
DOOR = (401, 403, 429, 503)
READ, CHANGE, SUBMIT = (400, 422, 503), (404, 409, 422, 503), (400, 408, 413, 415, 422, 503)


class Parameter(NamedTuple):
    """One parameter: where it stands, and its type."""

    name: str
    place: Literal["path", "query", "header"]
    kind: Any
    meaning: str


class Reply(NamedTuple):
    """One good answer: its type, what it means, its headers with their meaning, its media type and those of another form."""

    kind: Any
    meaning: str
    headers: Mapping[str, str] = {}
    also: tuple[str, ...] = ()
    media: str = JSON


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    name: str
    summary: str
    replies: Mapping[int, Reply]
    problems: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    bodies: Mapping[str, Any] = {}
    scope: Scope | None = Scope.READ


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /jobs/batch."""

    jobs: list[Submission]


class Repeated(Job, frozen=True):
    """A job that was made before."""

    duplicate: bool = True


class Shown(Job, frozen=True, kw_only=True):
    """A job with its attempts, and how long it stood where."""

    timeline: list[Stage]


JOB_ID = Parameter("id", "path", Id, "The job's id")
IDEMPOTENT = Parameter(HEADER, "header", Key, "The same request again with the same key makes no second job")
TRACE = Parameter("traceparent", "header", str, "The trace that the job belongs to (W3C Trace Context)")
NAME = Parameter("name", "path", ScheduleName, "The schedule's name")
KEY = Parameter("key", "path", str, "The key, as in queue.images.paused")
#: What an answer has for a token that may not read.
LITTLE = "; without the scope `read` only its id and status"
TIMES = "; without the scope `read` only its name and times"
NEXT_PAGE = {"Link": 'Where the next page is (rel="next"), if there is one'}
TEXTS = ("text/plain", "application/openmetrics-text")
LOCATION = {"Location": "The job's path"}
PLACE = {"Location": "The schedule's path"}

OPERATIONS = (
    Operation(
        "post",
        "/jobs",
        "submitJob",
        "Submit a job",
        {
            201: Reply(Job, "The job is stored", LOCATION),
            200: Reply(Repeated, f"The job that its dedupe_key or Idempotency-Key made before{LITTLE}", LOCATION),
        },
        SUBMIT,
        (IDEMPOTENT, TRACE),
        {JSON: Submission},
        scope=Scope.SUBMIT,
    ),
    Operation(
        "get",
        "/jobs",
        "listJobs",
        "List jobs, newest first, without their attempts",
        {200: Reply(list[Job], "A page of jobs", NEXT_PAGE)},
        READ,
        (
            Parameter("status", "query", JobStatus, "Only jobs of this status"),
            Parameter("queue", "query", Name, "Only jobs of this queue"),
            Parameter("task", "query", Name, "Only jobs of this task"),
            Parameter("limit", "query", Limit, "How many; default 100"),
            Parameter("cursor", "query", Id, "Only jobs with lower ids; taken from Link"),
        ),
    ),
    Operation(
        "post",
        "/jobs/batch",
        "submitJobs",
        "Submit many jobs, all or none",
        {201: Reply(Stored, "All are stored")},
        SUBMIT,
        (IDEMPOTENT, TRACE),
        {JSON: Batch, NDJSON: str},
        scope=Scope.SUBMIT,
    ),
    Operation(
        "post",
        "/jobs/cancel",
        "cancelJobs",
        "Cancel a page of the jobs that a filter finds",
        {200: Reply(Selected, "What was done")},
        SUBMIT,
        bodies={JSON: CancelSelection},
        scope=Scope.OPERATE,
    ),
    Operation(
        "post",
        "/jobs/retry",
        "retryJobs",
        "Retry a page of the jobs that a filter finds",
        {200: Reply(Selected, "What was done")},
        SUBMIT,
        bodies={JSON: RetrySelection},
        scope=Scope.OPERATE,
    ),
    Operation(
        "get",
        "/jobs/{id}",
        "showJob",
        "Show a job with its attempts",
        {200: Reply(Shown, "The job")},
        (404, *READ),
        (JOB_ID, Parameter("wait", "query", Wait, "Answer when the job is final, or after so many seconds")),
    ),
    Operation(
        "get",
        "/jobs/{id}/logs",
        "showLogs",
        "Show what a job's attempts have logged and printed",
        {200: Reply(LogsView, "A page of lines")},
        (404, *READ),
        (
            JOB_ID,
            Parameter("attempt", "query", AttemptNumber, "Only this attempt"),
            Parameter("cursor", "query", LogCursor, "Only what comes later; taken from an earlier answer"),
        ),
    ),
    Operation(
        "get",
        "/jobs/{id}/explain",
        "explainJob",
        "Why a job is not running or not finished",
        {200: Reply(Explanation, "The reason, and what stands beside it")},
        (404, *READ),
        (JOB_ID,),
    ),
    Operation(
        "post",
        "/jobs/{id}/cancel",
        "cancelJob",
        "Cancel a job that is not final",
        {200: Reply(Job, f"The job, cancelled{LITTLE}")},
        (400, *CHANGE),
        (JOB_ID,),
        scope=Scope.OPERATE,
    ),
    Operation(
        "post",
        "/jobs/{id}/retry",
        "retryJob",
        "Make a new job of one that failed or was cancelled",
        {
            201: Reply(Job, f"The new job{LITTLE}", LOCATION),
            200: Reply(Repeated, f"The new job, which an earlier retry made{LITTLE}", LOCATION),
        },
        (400, *CHANGE),
        (JOB_ID,),
        scope=Scope.OPERATE,
    ),
    Operation(
        "get", "/alive", "alive", "Whether this scheduler answers", {200: Reply(AliveView, "It does")}, scope=None
    ),
    Operation(
        "get",
        "/health",
        "health",
        "This scheduler's health",
        {200: Reply(HealthView, "Healthy or degraded"), 503: Reply(HealthView, "Unhealthy: it cannot store jobs")},
        scope=None,
    ),
    Operation(
        "get",
        "/metrics",
        "metrics",
        "Counters",
        {200: Reply(MetricsView, "The counters, or text for Prometheus", also=TEXTS)},
        (503,),
    ),
    Operation("get", "/leader", "leader", "Who leads", {200: Reply(LeaderView, "Who leads")}, READ),
    Operation("get", "/workers", "workers", "The workers", {200: Reply(WorkersView, "The workers")}, READ),
    Operation("get", "/schedulers", "schedulers", "The schedulers", {200: Reply(SchedulersView, "All")}, (400, 422)),
    Operation("get", "/queues", "queues", "The queues", {200: Reply(QueuesView, "The queues")}, READ),
    Operation(
        "get",
        "/history",
        "exportHistory",
        "Export finished jobs, one a line, newest first",
        {200: Reply(str, "A stretch of history", {"Link": 'Where it goes on (rel="next"), if it does'}, media=NDJSON)},
        READ,
        (
            Parameter("since", "query", Instant, "Only jobs that ended then or later"),
            Parameter("until", "query", Instant, "Only jobs that ended before"),
            Parameter("status", "query", Final, "Only jobs that ended so"),
            Parameter("queue", "query", Name, "Only jobs of this queue"),
            Parameter("task", "query", Name, "Only jobs of this task"),
            Parameter(
                "logs", "query", bool, "Whether each job has `logs` too: what its attempts have logged and printed"
            ),
            Parameter("cursor", "query", Id, "Only jobs with lower ids; taken from Link"),
        ),
    ),
    Operation(
        "get",
        "/schedules",
        "listSchedules",
        "List schedules, by name",
        {200: Reply(list[ScheduleView], "A page", NEXT_PAGE)},
        READ,
        (
            Parameter("limit", "query", Limit, "How many; default 100"),
            Parameter("cursor", "query", str, "Only later names; taken from Link"),
        ),
    ),
    Operation(
        "post",
        "/schedules",
        "createSchedule",
        "Make a schedule (needs the scope `submit` too)",
        {201: Reply(ScheduleView, f"It is stored{TIMES}", PLACE)},
        (409, *SUBMIT),
        bodies={JSON: NewSchedule},
        scope=Scope.OPERATE,
    ),
    Operation(
        "get",
        "/schedules/{name}",
        "showSchedule",
        "Show a schedule with its last ticks",
        {200: Reply(ScheduleView, "It")},
        (404, *READ),
        (NAME,),
    ),
    Operation(
        "put",
        "/schedules/{name}",
        "putSchedule",
        "Make or replace a schedule (needs the scope `submit` too)",
        {200: Reply(ScheduleView, f"It is so now{TIMES}"), 201: Reply(ScheduleView, f"It is stored{TIMES}", PLACE)},
        (404, *SUBMIT),
        (NAME,),
        {JSON: SchedulePlan},
        scope=Scope.OPERATE,
    ),
    Operation(
        "delete",
        "/schedules/{name}",
        "removeSchedule",
        "Remove a schedule; the jobs that it made stay",
        {200: Reply(Removed, "It is removed")},
        (404, *READ),
        (NAME,),
        scope=Scope.OPERATE,
    ),
    Operation(
        "get",
        "/schedules/{name}/next",
        "nextFires",
        "The coming ticks of a schedule, in its zone",
        {200: Reply(NextFires, "They; at least one, and none more than ten years ahead besides")},
        (404, *READ),
        (NAME, Parameter("count", "query", Count, "How many; default 5")),
    ),
    Operation(
        "post",
        "/schedules/{name}/pause",
        "pauseSchedule",
        "Stop a schedule",
        {200: Reply(ScheduleView, f"It stands still{TIMES}")},
        (404, *READ),
        (NAME, Parameter("who", "query", Who, "Who wants it")),
        scope=Scope.OPERATE,
    ),
    Operation(
        "post",
        "/schedules/{name}/resume",
        "resumeSchedule",
        "Let a schedule go on from now",
        {200: Reply(ScheduleView, f"It goes on{TIMES}")},
        (404, *READ),
        (NAME,),
        scope=Scope.OPERATE,
    ),
    Operation("get", "/config", "showConfig", "The live configuration", {200: Reply(LiveView, "It")}, READ),
    Operation(
        "get",
        "/config/history",
        "configHistory",
        "Its versions",
        {200: Reply(list[Version], "A page, newest first", NEXT_PAGE)},
        READ,
        (
            Parameter("limit", "query", Versions, "How many; default 100"),
            Parameter("cursor", "query", Id, "Only older versions; taken from Link"),
        ),
    ),
    Operation(
        "put",
        "/config/{key}",
        "setConfig",
        "Set one key",
        {200: Reply(Version, "The new version")},
        SUBMIT,
        (KEY,),
        {JSON: Setting},
        scope=Scope.OPERATE,
    ),
    Operation(
        "delete",
        "/config/{key}",
        "unsetConfig",
        "Unset one key",
        {200: Reply(Version, "The new version")},
        READ,
        (KEY, Parameter("who", "query", Who, "Who wants it")),
        scope=Scope.OPERATE,
    ),
    Operation(
        "post",
        "/config/rollback",
        "rollbackConfig",
        "Bring the values of an old version back",
        {200: Reply(Version, "The new version")},
        SUBMIT,
        bodies={JSON: Rollback},
        scope=Scope.ADMIN,
    ),
)


def build(settings: HttpSettings) -> bytes:
    """The document, with this scheduler's limits."""
    kinds = _kinds()
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    schema_of = dict(zip(map(repr, kinds), schemas, strict=True))
    # Not maxItems: a batch that is too long gets a 413, as everything does that is too large.
    components["Batch"]["properties"]["jobs"]["description"] = f"at most {settings.max_batch_jobs} jobs"
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schema_of)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "taskd",
                "version": version("taskd"),
                "description": "A distributed task scheduler. Times are RFC 3339 in UTC, durations are seconds.",
            },
            "paths": paths,
            "components": {
                "schemas": components,
                "responses": {str(n): _problem(n) for n in PROBLEMS},
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "See `taskd token`."}},
            },
        }
    )


def _kinds() -> list[Any]:
    found: list[Any] = [ProblemView]
    for operation in OPERATIONS:
        found += [p.kind for p in operation.parameters]
        found += [*operation.bodies.values(), *(reply.kind for reply in operation.replies.values())]
    return list({repr(kind): kind for kind in found}.values())


def _operation(operation: Operation, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    group = GROUPS.get(operation.path.split("/")[1], "Cluster")
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary, "tags": [group]}
    if operation.parameters:
        described["parameters"] = [
            {
                "name": p.name,
                "in": p.place,
                "required": p.place == "path",
                "description": p.meaning,
                "schema": schema_of[repr(p.kind)],
            }
            for p in operation.parameters
        ]
    if operation.bodies:
        content = {media: {"schema": schema_of[repr(kind)]} for media, kind in operation.bodies.items()}
        described["requestBody"] = {"required": True, "content": content}
    if operation.scope is not None:
        described["description"] = f"Needs a token with the scope `{operation.scope}`, where there are tokens."
        described["security"] = [{"token": []}, {}]
    statuses = sorted({*operation.problems, *(DOOR if operation.scope is not None else ())})
    problems = {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}
    replies = {str(s): _reply(reply, schema_of[repr(reply.kind)]) for s, reply in operation.replies.items()}
    described["responses"] = {**replies, **problems}
    return described


def _reply(reply: Reply, schema: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"description": reply.meaning, "content": {reply.media: {"schema": schema}}}
    described["content"] |= {media: {"schema": {"type": "string"}} for media in reply.also}
    if reply.headers:
        described["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in reply.headers.items()
        }
    return described


def _problem(status: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {PROBLEMS[status]}",
        "content": {PROBLEM: {"schema": {"$ref": REF.format(name="ProblemView")}}},
    }
    if status in (429, 503):
        described["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    if status == 401:
        described["headers"] = {"WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}}}
    return described
