"""Routes: one value for each method of each path, from which the application and the OpenAPI document are made.

A resource names its routes beside its handlers. A route without an `operation` is served and left out of the document.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from taskd.api.request import Request
from taskd.api.responses import Response
from taskd.domain.scope import Scope

JSON, NDJSON = "application/json", "application/x-ndjson"
#: Statuses of problems that a kind of operation may answer with, besides those of authorization.
READ_PROBLEMS = (400, 422, 503)
CHANGE_PROBLEMS = (404, 409, 422, 503)
BODY_PROBLEMS = (400, 408, 413, 415, 422, 503)

_CONVERTER = re.compile(r":\w+(?=})")

Handler = Callable[[Request], Awaitable[Response]]


class Parameter(NamedTuple):
    """One parameter: its name, its place, its type and its description."""

    name: str
    place: Literal["path", "query", "header"]
    kind: Any
    description: str


class Result(NamedTuple):
    """One successful response: its type and description, its headers with their descriptions, and its media type.

    `also` are media types that the same route answers with as text.
    """

    kind: Any
    description: str
    headers: Mapping[str, str] = {}
    also: tuple[str, ...] = ()
    media: str = JSON


class Operation(NamedTuple):
    """The description of a route in the OpenAPI document; `name` is its operationId, `problems` are statuses."""

    tag: str
    name: str
    summary: str
    results: Mapping[int, Result]
    problems: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    bodies: Mapping[str, Any] = {}


class Route(NamedTuple):
    """One method of one path. `scope` is the scope that a token needs; None: the route needs no token."""

    method: str
    path: str
    handler: Handler
    scope: Scope | None
    operation: Operation | None = None

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it, without the router's converters."""
        return _CONVERTER.sub("", self.path)


class Resource(ABC):
    """A part of the API: the routes of some paths."""

    @abstractmethod
    def routes(self) -> Sequence[Route]:
        """Return the routes, in the order in which the document lists them."""

    def close(self) -> None:  # noqa: B027  few resources have requests that wait
        """Answer the requests that are waiting, because the process is about to stop."""


def routes_of(resources: Iterable[Resource]) -> list[Route]:
    """Return the routes of all resources, in their order."""
    return [route for resource in resources for route in resource.routes()]
