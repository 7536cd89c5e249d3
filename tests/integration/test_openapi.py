"""Tests of the OpenAPI document: it has every route, and schemathesis finds no behaviour that contradicts it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from taskd.api.docs_page import ASSETS
from taskd.api.long_poll import FinalWaiter
from taskd.runtime.serve import Address
from tests.integration.api_stack import api_on
from tests.unit.api_world import Recorder

#: Routes for browsers, and the document itself.
UNDESCRIBED = {"/openapi.json", "/docs", "/docs/{name}"}
#: A body that is refused may be valid by its schema: a payload with a NUL, or two fields that exclude each other.
UNFAIR = "positive_data_acceptance"


@pytest.fixture
async def address(postgres_dsn: str) -> AsyncIterator[Address]:
    async with api_on(postgres_dsn) as address:
        yield address


async def test_every_route_is_described_with_the_scope_that_it_needs(address: Address) -> None:
    async with httpx.AsyncClient(base_url=address.url) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    described = {
        (path, method.upper()): re.findall("`([a-z]+)`", operation.get("description", ""))
        for path, operations in paths.items()
        for method, operation in operations.items()
    }
    served = {
        (path, method): [scope] if scope is not None else []
        for path, methods in Recorder().api().routes.items()
        for method, scope in methods.items()
        if method != "HEAD" and path not in UNDESCRIBED
    }
    assert served == described


async def test_the_server_does_what_its_description_says(
    address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = FinalWaiter.wait

    async def briefly(self: FinalWaiter, job_id: int, seconds: float, gone: asyncio.Future[None]) -> None:
        await wait(self, job_id, min(seconds, 0.1), gone)

    # No worker runs the jobs, so each ?wait= would take its whole time.
    monkeypatch.setattr(FinalWaiter, "wait", briefly)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{address.url}/openapi.json"),
        *(
            "--checks",
            "all",
            "--exclude-checks",
            UNFAIR,
            "--max-examples",
            "15",
            "--seed",
            "1",
            "--request-timeout",
            "30",
        ),
        *("--phases", "examples,coverage,fuzzing", "--warnings", "off", "--suppress-health-check", "all"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[:9000]


async def test_the_page_needs_nothing_from_elsewhere(address: Address) -> None:
    async with httpx.AsyncClient(base_url=address.url) as client:
        page = await client.get("/docs")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "//" not in page.text.replace("<!doctype", "")
        for name in [*ASSETS, "start.js"]:
            asset = await client.get(f"/docs/{name}")
            assert (asset.status_code, len(asset.content) > 10) == (200, True)
        assert (await client.get("/docs/..%2f__init__.py")).status_code == 404
        assert (await client.get("/openapi.json")).json()["openapi"] == "3.1.0"
