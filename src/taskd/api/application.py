"""The ASGI application: paths to resources, and every failure to a problem document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from http import HTTPStatus

from starlette.routing import Route, Router
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from taskd.api.answers import Answer
from taskd.api.bulk import Bulk
from taskd.api.call import Call, Disconnected
from taskd.api.cluster import Cluster
from taskd.api.door import Door, audit
from taskd.api.explanations import Explanations
from taskd.api.history import History
from taskd.api.hosts import Hosts
from taskd.api.jobs import Jobs
from taskd.api.live import LiveConfiguration
from taskd.api.manual import Manual
from taskd.api.problems import FieldError, Problem, invalid, not_found, unavailable
from taskd.api.reading import Gate
from taskd.api.schedules import ScheduleResources
from taskd.api.transcripts import JobLogs
from taskd.domain.errors import Rejected, SchemaMismatch, Unavailable
from taskd.domain.explain.situation import Timings
from taskd.domain.scope import Scope
from taskd.runtime.log import logger
from taskd.seams import (
    Cancels,
    ConfigEditing,
    Coordinator,
    Explained,
    Intake,
    LogReader,
    Reads,
    Retries,
    Schedules,
    Standing,
    Terms,
    Tokens,
    Transport,
)
from taskd.settings import HttpSettings

Handler = Callable[[Call], Awaitable[Answer]]


#: What the changes that are made need, of which the log keeps a line each.
AUDITED = (Scope.OPERATE, Scope.ADMIN)


class Resource:
    """One path: its handlers by method with the scope that each needs (None: for everybody), and what failures look like."""

    def __init__(self, door: Door, handlers: Mapping[str, tuple[Handler, Scope | None]]) -> None:
        self._door = door
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers["HEAD"] = handlers["GET"]

    @property
    def methods(self) -> dict[str, Scope | None]:
        """What it answers, and the scope that each needs."""
        return {method: scope for method, (_, scope) in sorted(self._handlers.items())}

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(Call(scope, receive), scope["method"])
        except Disconnected:
            return
        await answer.send(send)  # the server itself leaves the body of an answer to HEAD out

    async def _answer(self, call: Call, method: str) -> Answer:
        handler, scope = self._handlers.get(method, (None, None))
        if handler is None:
            return self._not_allowed(method).answer()
        try:
            if scope is not None:
                if self._door.stale:
                    await self._door.refresh()
                self._door.let_in(call, scope)
            answer = await handler(call)
        except Disconnected:
            raise
        except Exception as error:  # noqa: BLE001  a bug must not take the connection down, nor show its insides
            answer = _failed(call, error)
            if not (isinstance(error, Unavailable) and error.outcome_unknown):
                return answer  # nothing was done
        if scope in AUDITED:
            audit(call, answer.status)
        return answer

    def _not_allowed(self, method: str) -> Problem:
        allowed = ", ".join(self.methods)
        return Problem(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"{method} is not possible here, only {allowed}",
            headers=[(b"allow", allowed.encode())],
        )


def _failed(call: Call, error: Exception) -> Answer:
    match error:
        case Problem():
            problem = error
        case Unavailable():
            problem = unavailable(error.public, outcome_unknown=error.outcome_unknown)
        case SchemaMismatch():
            logger().warning("the database's schema does not fit", error=str(error))
            problem = unavailable("the database's schema does not fit this taskd: run `taskd migrate`")
        case Rejected():
            logger().warning("PostgreSQL refused what a request has", request=call.line, error=str(error))
            problem = invalid(FieldError("body", "has something that PostgreSQL cannot store"))
        case _:
            logger().error("a request failed", request=call.line, exc_info=error)
            problem = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an error in taskd; its log says more")
    return problem.answer()


class Api:
    """The application. `close` answers long polls at once; call it when the process is told to stop."""

    def __init__(
        self,
        door: Door,
        jobs: Jobs,
        bulk: Bulk,
        cluster: Cluster,
        live: LiveConfiguration,
        manual: Manual,
        history: History,
        schedules: ScheduleResources,
        logs: JobLogs,
        explanations: Explanations,
    ) -> None:
        submit, read, operate, admin = Scope
        self._door = door
        self._jobs = jobs
        self._router = Router(
            [
                Route("/jobs", Resource(door, {"GET": (jobs.list, read), "POST": (jobs.submit, submit)})),
                Route("/jobs/batch", Resource(door, {"POST": (jobs.submit_batch, submit)})),
                Route("/jobs/cancel", Resource(door, {"POST": (bulk.cancel, operate)})),
                Route("/jobs/retry", Resource(door, {"POST": (bulk.retry, operate)})),
                Route("/jobs/{id}", Resource(door, {"GET": (jobs.show, read)})),
                Route("/jobs/{id}/logs", Resource(door, {"GET": (logs.show, read)})),
                Route("/jobs/{id}/explain", Resource(door, {"GET": (explanations.show, read)})),
                Route("/jobs/{id}/cancel", Resource(door, {"POST": (jobs.cancel, operate)})),
                Route("/jobs/{id}/retry", Resource(door, {"POST": (jobs.retry, operate)})),
                Route("/alive", Resource(door, {"GET": (cluster.alive, None)})),
                Route("/health", Resource(door, {"GET": (cluster.health, None)})),
                Route("/metrics", Resource(door, {"GET": (cluster.metrics, read)})),
                Route("/leader", Resource(door, {"GET": (cluster.leader, read)})),
                Route("/workers", Resource(door, {"GET": (cluster.workers, read)})),
                Route("/schedulers", Resource(door, {"GET": (cluster.schedulers, read)})),
                Route("/queues", Resource(door, {"GET": (cluster.queues, read)})),
                Route("/history", Resource(door, {"GET": (history.export, read)})),
                Route("/config", Resource(door, {"GET": (live.show, read)})),
                Route("/config/history", Resource(door, {"GET": (live.history, read)})),
                Route("/config/rollback", Resource(door, {"POST": (live.rollback, admin)})),
                Route(
                    "/config/{key:path}", Resource(door, {"PUT": (live.set, operate), "DELETE": (live.unset, operate)})
                ),
                Route(
                    "/schedules", Resource(door, {"GET": (schedules.list, read), "POST": (schedules.create, operate)})
                ),
                Route(
                    "/schedules/{name}",
                    Resource(
                        door,
                        {
                            "GET": (schedules.show, read),
                            "PUT": (schedules.put, operate),
                            "DELETE": (schedules.remove, operate),
                        },
                    ),
                ),
                Route("/schedules/{name}/next", Resource(door, {"GET": (schedules.next, read)})),
                Route("/schedules/{name}/pause", Resource(door, {"POST": (schedules.pause, operate)})),
                Route("/schedules/{name}/resume", Resource(door, {"POST": (schedules.resume, operate)})),
                Route("/openapi.json", Resource(door, {"GET": (manual.description, None)})),
                Route("/docs", Resource(door, {"GET": (manual.page, None)})),
                Route("/docs/{name}", Resource(door, {"GET": (manual.asset, None)})),
            ],
            redirect_slashes=False,
            default=_unknown_path,
        )

        #: What needs no search: a router looks through its paths one by one.
        self._fixed = {path: resource for path, resource in self._resources() if "{" not in path}

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        try:
            await self._door.keep_pages_out(scope)
        except (Problem, Unavailable, SchemaMismatch) as error:
            await _failed(Call(scope, receive), error).send(send)
            return
        await self._fixed.get(scope["path"], self._router)(scope, receive, send)

    def _resources(self) -> Iterator[tuple[str, Resource]]:
        for route in self._router.routes:
            if isinstance(route, Route) and isinstance(route.app, Resource):
                yield route.path_format, route.app

    @property
    def routes(self) -> dict[str, dict[str, Scope | None]]:
        """Each path, its methods, and the scope that each needs."""
        return {path: resource.methods for path, resource in self._resources()}

    def close(self) -> None:
        """Answer everybody who waits for a job with what is known."""
        self._jobs.waiter.close()


async def _unknown_path(scope: Connection, receive: Receive, send: Send) -> None:
    await not_found(f"there is nothing at {scope['path']}; jobs are at /jobs").answer().send(send)


def build(
    *,
    intake: Intake,
    cancels: Cancels,
    retries: Retries,
    overview: Reads,
    terms: Terms,
    coordinator: Coordinator,
    standing: Standing,
    editor: ConfigEditing,
    tokens: Tokens,
    schedules: Schedules,
    transcripts: LogReader,
    explained: Explained,
    transport: Transport,
    settings: HttpSettings,
    timings: Timings,
    anybody: bool,
) -> Api:
    """The API of one scheduler. `anybody`: whether everybody may do everything while there are no tokens."""
    gate = Gate()
    return Api(
        Door(tokens, anybody=anybody, rate=settings.rate_limit, hosts=Hosts(settings)),
        Jobs(intake, cancels, retries, overview, settings, gate),
        Bulk(cancels, retries, overview),
        Cluster(overview, terms, coordinator, standing, timings.leader_stale),
        LiveConfiguration(editor),
        Manual(settings),
        History(overview, transcripts, gate),
        ScheduleResources(schedules, settings, gate),
        JobLogs(overview, transcripts),
        Explanations(explained, terms, editor, coordinator, transport, standing, timings),
    )
