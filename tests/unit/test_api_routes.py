"""Tests of routes: a resource is added by its routes alone, with or without a description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import httpx
import msgspec
import pytest

from taskd.api import Api, openapi
from taskd.api.auth import Authenticator
from taskd.api.hosts import Hosts
from taskd.api.request import Request
from taskd.api.responses import Response, document
from taskd.api.routes import Operation, Resource, Result, Route, routes_of
from taskd.domain.scope import Scope
from taskd.settings import HttpSettings
from tests.unit.api_world import Recorder, asking

SCHEMAS = """
    AliveView Attempt Backoff Batch Beside Busy CancelSelection Detail Estimate Explanation
    FieldError Fire Health HealthView Holder Job JobFields JobPlanView JobStatus KeyView LeaderView
    LineView LiveView LogsView MetricsView Missed NewSchedule NextFires Overlap ProblemView Progress
    QueueView QueuesView Removed Repeated RetryBackoff RetrySelection Rollback SchedulePlan
    ScheduleView SchedulerView SchedulersView Selected ServerView Setting ShardView Shown Stage
    Stored Submission Version WorkerView WorkersView
"""


class Pages(Resource):
    """A resource with a described route, and one that is left out of the document."""

    def __init__(self) -> None:
        self.closed = False

    def routes(self) -> Sequence[Route]:
        operation = Operation("Pages", "showPage", "Show a page", {200: Result(list[int], "The page")}, (404,))
        return (
            Route("GET", "/ui/pages/{name:path}", self.show, Scope.READ, operation),
            Route("GET", "/ui/pages/first", self.first, None),
            Route("POST", "/ui/pages/{name:path}", self.show, Scope.OPERATE),
        )

    async def show(self, request: Request) -> Response:
        return document(request.segment("name"))

    async def first(self, _: Request) -> Response:
        return document("first")

    def close(self) -> None:
        self.closed = True


def api_of(*resources: Resource) -> Api:
    tokens: Any = Recorder()
    return Api(Authenticator(tokens, allow_anonymous=True, rate=0.0, hosts=Hosts(HttpSettings())), resources)


async def test_the_application_serves_the_routes_of_its_resources() -> None:
    pages = Pages()
    api = api_of(pages)
    transport = httpx.ASGITransport(app=cast(Any, api))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/ui/pages/a/b")).json() == "a/b"
        assert (await client.post("/ui/pages/a")).json() == "a"
        assert (await client.get("/ui/pages/first")).json() == "first"  # although an earlier route matches too
        refused = await client.delete("/ui/pages/a")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
        assert (await client.get("/ui")).status_code == 404
    assert api.routes["/ui/pages/{name}"] == {"GET": Scope.READ, "HEAD": Scope.READ, "POST": Scope.OPERATE}
    api.close()
    assert pages.closed


def test_the_document_has_the_routes_with_an_operation() -> None:
    described = msgspec.json.decode(openapi.build(routes_of([Pages()])))
    assert {path: list(methods) for path, methods in described["paths"].items()} == {"/ui/pages/{name}": ["get"]}
    page = described["paths"]["/ui/pages/{name}"]["get"]
    assert (page["operationId"], page["tags"], page["security"]) == ("showPage", ["Pages"], [{"token": []}, {}])
    assert list(page["responses"]) == ["200", "401", "403", "404", "429", "503"]


def test_two_routes_of_one_method_and_path_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two routes have one method of /ui/pages/"):
        api_of(Pages(), Pages())


async def test_the_names_of_schemas_stay() -> None:
    """Generated clients have them. A class that is renamed keeps its old name in `openapi.PUBLISHED`."""
    async with asking(Recorder()) as client:
        text = (await client.get("/openapi.json")).text
    schemas = msgspec.json.decode(text)["components"]["schemas"]
    assert sorted(schemas) == SCHEMAS.split()
    assert not [name for name in openapi.PUBLISHED if f'"{name}"' in text or f'/{name}"' in text]
