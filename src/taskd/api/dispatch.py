"""Dispatch of the requests for one path: method, authorization, handler, and every failure as a problem document."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from taskd.api.auth import Authenticator, audit
from taskd.api.problems import FieldError, Problem, invalid, unavailable
from taskd.api.request import Disconnected, Request
from taskd.api.responses import Response
from taskd.api.routes import Route
from taskd.domain.errors import Rejected, SchemaMismatch, Unavailable
from taskd.domain.scope import Scope
from taskd.runtime.log import logger

#: Scopes of routes that change what others submitted: each such request leaves an audit line in the log.
AUDITED = (Scope.OPERATE, Scope.ADMIN)


class PathApp:
    """The ASGI application of one path. HEAD is answered by the handler of GET."""

    def __init__(self, authenticator: Authenticator, routes: Sequence[Route]) -> None:
        self._authenticator = authenticator
        self._routes = {route.method: route for route in routes}
        if len(self._routes) != len(routes):
            raise ValueError(f"two routes have one method of {routes[0].path}")
        if "GET" in self._routes:
            self._routes["HEAD"] = self._routes["GET"]

    @property
    def methods(self) -> dict[str, Scope | None]:
        """The methods of the path, and the scope that each needs."""
        return {method: route.scope for method, route in sorted(self._routes.items())}

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._respond(request, scope["method"])
        except Disconnected:
            return
        finally:
            request.release()
        await response.send(send)  # uvicorn leaves out the body of a response to HEAD

    async def _respond(self, request: Request, method: str) -> Response:
        route = self._routes.get(method)
        if route is None:
            return self._not_allowed(method).response()
        try:
            if route.scope is not None:
                if self._authenticator.stale:
                    await self._authenticator.refresh()
                self._authenticator.authorize(request, route.scope)
            response = await route.handler(request)
        except Disconnected:
            raise
        except Exception as error:  # noqa: BLE001  a bug must neither close the connection nor show its traceback
            response = failure_response(request, error)
            if not (isinstance(error, Unavailable) and error.outcome_unknown):
                return response  # nothing was changed
        if route.scope in AUDITED:
            audit(request, response.status)
        return response

    def _not_allowed(self, method: str) -> Problem:
        allowed = ", ".join(self.methods)
        return Problem(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"{method} is not possible here, only {allowed}",
            headers=[(b"allow", allowed.encode())],
        )


def failure_response(request: Request, error: Exception) -> Response:
    """Return the problem document for an error that a handler raised; log those that the operator should see."""
    match error:
        case Problem():
            problem = error
        case Unavailable():
            problem = unavailable(error.public, outcome_unknown=error.outcome_unknown)
        case SchemaMismatch():
            logger().warning("the database's schema does not fit", error=str(error))
            problem = unavailable("the database's schema does not fit this taskd: run `taskd migrate`")
        case Rejected():
            logger().warning("PostgreSQL refused the data of a request", request=request.line, error=str(error))
            problem = invalid(FieldError("body", "contains a value that PostgreSQL cannot store"))
        case _:
            logger().error("a request failed", request=request.line, exc_info=error)
            problem = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an error in taskd; its log says more")
    return problem.response()
