"""The ASGI application: finds the handlers of a path."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import Route as RouterEntry
from starlette.routing import Router
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from taskd.api.auth import Authenticator
from taskd.api.dispatch import PathApp, failure_response
from taskd.api.problems import Problem, not_found
from taskd.api.request import Request
from taskd.api.routes import Resource, Route, routes_of
from taskd.domain.errors import SchemaMismatch, Unavailable
from taskd.domain.scope import Scope


class Api:
    """The API of one scheduler. `close` answers long polls at once; call it when the process begins to stop."""

    def __init__(self, authenticator: Authenticator, resources: Sequence[Resource]) -> None:
        self._authenticator = authenticator
        self._resources = resources
        by_path: dict[str, list[Route]] = {}
        for route in routes_of(resources):
            by_path.setdefault(route.path, []).append(route)
        self._paths = {path: PathApp(authenticator, routes) for path, routes in by_path.items()}
        #: Paths without parameters are looked up here; the router would try its paths one after another.
        self._fixed = {path: app for path, app in self._paths.items() if "{" not in path}
        ordered = [*self._fixed, *(path for path in self._paths if path not in self._fixed)]
        self._router = Router(
            [RouterEntry(path, self._paths[path]) for path in ordered],
            redirect_slashes=False,
            default=_unknown_path,
        )

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection. A page of a foreign origin is refused before the path is looked up."""
        try:
            await self._authenticator.refuse_foreign_pages(scope)
        except (Problem, Unavailable, SchemaMismatch) as error:
            await failure_response(Request(scope, receive), error).send(send)
            return
        await self._fixed.get(scope["path"], self._router)(scope, receive, send)

    @property
    def routes(self) -> dict[str, dict[str, Scope | None]]:
        """Each path, its methods, and the scope that each needs."""
        return {route.template: self._paths[route.path].methods for route in routes_of(self._resources)}

    def close(self) -> None:
        """Answer the requests that are waiting for a job with its current state."""
        for resource in self._resources:
            resource.close()


async def _unknown_path(scope: Connection, receive: Receive, send: Send) -> None:
    await not_found(f"there is nothing at {scope['path']}; jobs are at /jobs").response().send(send)
