"""The ASGI application: paths to resources, and every failure to a problem document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from taskd.api.answers import Answer
from taskd.api.bulk import Bulk
from taskd.api.call import Call, Disconnected
from taskd.api.cluster import Cluster
from taskd.api.history import History
from taskd.api.jobs import Jobs
from taskd.api.live import LiveConfiguration
from taskd.api.manual import Manual
from taskd.api.problems import FieldError, Problem, invalid, not_found, unavailable
from taskd.domain.errors import Rejected, SchemaMismatch, Unavailable
from taskd.runtime.log import logger
from taskd.seams import Cancels, Coordinator, Intake, LiveEditor, Overview, Retries, Standing, Terms
from taskd.settings import Http

Handler = Callable[[Call], Awaitable[Answer]]


class Resource:
    """One path: its handlers by method, and what their failures look like."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers["HEAD"] = handlers["GET"]

    @property
    def methods(self) -> list[str]:
        """What it answers, in order."""
        return sorted(self._handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._answer(Call(scope, receive), scope["method"])
        except Disconnected:
            return
        await answer.send(send)  # the server itself leaves the body of an answer to HEAD out

    async def _answer(self, call: Call, method: str) -> Answer:
        handler = self._handlers.get(method)
        if handler is None:
            return self._not_allowed(method).answer()
        try:
            return await handler(call)
        except Problem as problem:
            return problem.answer()
        except Unavailable as error:
            return unavailable(str(error), outcome_unknown=error.outcome_unknown).answer()
        except SchemaMismatch as error:
            return unavailable(str(error)).answer()
        except Rejected as error:
            return invalid(FieldError("body", str(error))).answer()
        except Disconnected:
            raise
        except Exception:  # noqa: BLE001  a bug must not take the connection down, nor show its insides
            logger().exception("a request failed", method=method, path=call.path)
            return _bug().answer()

    def _not_allowed(self, method: str) -> Problem:
        allowed = ", ".join(self.methods)
        return Problem(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"{method} is not possible here, only {allowed}",
            headers=[(b"allow", allowed.encode())],
        )


def _bug() -> Problem:
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an error in taskd; its log says more")


class Api:
    """The application. `close` answers long polls at once; call it when the process is told to stop."""

    def __init__(
        self, jobs: Jobs, bulk: Bulk, cluster: Cluster, live: LiveConfiguration, manual: Manual, history: History
    ) -> None:
        self._jobs = jobs
        self._router = Router(
            [
                Route("/jobs", Resource({"GET": jobs.list, "POST": jobs.submit})),
                Route("/jobs/batch", Resource({"POST": jobs.submit_batch})),
                Route("/jobs/cancel", Resource({"POST": bulk.cancel})),
                Route("/jobs/retry", Resource({"POST": bulk.retry})),
                Route("/jobs/{id}", Resource({"GET": jobs.show})),
                Route("/jobs/{id}/cancel", Resource({"POST": jobs.cancel})),
                Route("/jobs/{id}/retry", Resource({"POST": jobs.retry})),
                Route("/health", Resource({"GET": cluster.health})),
                Route("/metrics", Resource({"GET": cluster.metrics})),
                Route("/leader", Resource({"GET": cluster.leader})),
                Route("/workers", Resource({"GET": cluster.workers})),
                Route("/schedulers", Resource({"GET": cluster.schedulers})),
                Route("/queues", Resource({"GET": cluster.queues})),
                Route("/history", Resource({"GET": history.export})),
                Route("/config", Resource({"GET": live.show})),
                Route("/config/history", Resource({"GET": live.history})),
                Route("/config/rollback", Resource({"POST": live.rollback})),
                Route("/config/{key:path}", Resource({"PUT": live.set, "DELETE": live.unset})),
                Route("/openapi.json", Resource({"GET": manual.description})),
                Route("/docs", Resource({"GET": manual.page})),
                Route("/docs/{name}", Resource({"GET": manual.asset})),
            ],
            redirect_slashes=False,
            default=_unknown_path,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        await self._router(scope, receive, send)

    @property
    def routes(self) -> dict[str, list[str]]:
        """Each path and its methods."""
        return {
            r.path_format: r.app.methods
            for r in self._router.routes
            if isinstance(r, Route) and isinstance(r.app, Resource)
        }

    def close(self) -> None:
        """Answer everybody who waits for a job with what is known."""
        self._jobs.waiter.close()


async def _unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
    await not_found(f"there is nothing at {scope['path']}; jobs are at /jobs").answer().send(send)


def build(
    *,
    intake: Intake,
    cancels: Cancels,
    retries: Retries,
    overview: Overview,
    terms: Terms,
    coordinator: Coordinator,
    standing: Standing,
    editor: LiveEditor,
    settings: Http,
    leader_stale: float,
) -> Api:
    """The API of one scheduler. `leader_stale`: seconds after which a leader that was not renewed counts as gone."""
    return Api(
        Jobs(intake, cancels, retries, overview, settings),
        Bulk(cancels, retries, overview),
        Cluster(overview, terms, coordinator, standing, leader_stale),
        LiveConfiguration(editor),
        Manual(settings),
        History(overview),
    )
