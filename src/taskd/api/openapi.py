"""The OpenAPI 3.1 document, made of the routes and of the types that validate requests and render responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from taskd.api.routes import Operation, Result, Route
from taskd.api.views import ProblemView
from taskd.domain.scope import Scope

PROBLEM = "application/problem+json"
REF = "#/components/schemas/{name}"
#: Names of schemas that generated clients know, where the class has another name.
PUBLISHED = {
    "BackoffFields": "RetryBackoff",
    "BatchView": "Stored",
    "ConfigView": "LiveView",
    "DuplicateJob": "Repeated",
    "JobWithTimeline": "Shown",
    "LeadersView": "LeaderView",
}
#: The meaning of each error, whichever operation answers with it.
PROBLEMS = {
    400: "The body is not JSON or not UTF-8, or the query string is not URL-encoded UTF-8",
    401: "A token is needed, or the one that was sent is not valid",
    403: "The token lacks the scope, or is restricted to other queues",
    404: "There is no such job or schedule",
    408: "The body did not arrive in time",
    409: "The job's status does not allow the change (`job_status` is that status), or the schedule's name is taken",
    413: "The payload, the body or the batch is too large",
    415: "The Content-Type is not accepted; Accept-Post lists those that are",
    422: "A field or parameter is unknown, of the wrong type, out of range or given twice; `errors` names each",
    429: "The token has used up its requests per second",
    503: "PostgreSQL did not answer in time, or other requests hold the memory for bodies. With `outcome_unknown`, the "
    "change may have been made all the same",
}
#: Statuses of every operation that needs a scope.
AUTH_PROBLEMS = (401, 403, 429, 503)


def build(routes: Iterable[Route]) -> bytes:
    """Return the document for those of `routes` that have an operation."""
    described = [(route, route.operation) for route in routes if route.operation is not None]
    kinds = _kinds(operation for _, operation in described)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    schema_of = dict(zip(map(repr, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route, operation in described:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(operation, route.scope, schema_of)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "taskd",
            "version": version("taskd"),
            "description": "A distributed task scheduler. Times are RFC 3339 in UTC, durations are seconds.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {str(status): _problem(status) for status in PROBLEMS},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "See `taskd token`."}},
        },
    }
    return msgspec.json.encode(_published(document))


def _kinds(operations: Iterable[Operation]) -> list[Any]:
    """Return each type that an operation names, once."""
    kinds: list[Any] = [ProblemView]
    for operation in operations:
        kinds += [parameter.kind for parameter in operation.parameters]
        kinds += [*operation.bodies.values(), *(result.kind for result in operation.results.values())]
    return list({repr(kind): kind for kind in kinds}.values())


def _published(value: Any) -> Any:
    """Return the document with the published names of its schemas: as keys, titles and references."""
    match value:
        case dict():
            return {PUBLISHED.get(key, key): _published(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_published(inner) for inner in value]
        case str():
            start, _, name = value.rpartition("/")
            return f"{start}/{PUBLISHED[name]}" if start and name in PUBLISHED else PUBLISHED.get(value, value)
        case _:
            return value


def _operation(operation: Operation, scope: Scope | None, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
    }
    if operation.parameters:
        described["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.description,
                "schema": schema_of[repr(parameter.kind)],
            }
            for parameter in operation.parameters
        ]
    if operation.bodies:
        content = {media: {"schema": schema_of[repr(kind)]} for media, kind in operation.bodies.items()}
        described["requestBody"] = {"required": True, "content": content}
    if scope is not None:
        described["description"] = f"Needs a token with the scope `{scope}`, where there are tokens."
        described["security"] = [{"token": []}, {}]
    statuses = sorted({*operation.problems, *(AUTH_PROBLEMS if scope is not None else ())})
    described["responses"] = {
        **{str(status): _result(result, schema_of) for status, result in operation.results.items()},
        **{str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses},
    }
    return described


def _result(result: Result, schema_of: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": result.description,
        "content": {
            result.media: {"schema": schema_of[repr(result.kind)]},
            **{media: {"schema": {"type": "string"}} for media in result.also},
        },
    }
    if result.headers:
        described["headers"] = {
            name: {"description": description, "schema": {"type": "string"}}
            for name, description in result.headers.items()
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
