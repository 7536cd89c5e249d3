"""Fixtures of the tests of the API: recording seams, and a client of the API on them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.unit.api_world import Recorder, asking


@pytest.fixture
def world() -> Recorder:
    return Recorder()


@pytest.fixture
async def client(world: Recorder) -> AsyncIterator[httpx.AsyncClient]:
    async with asking(world) as client:
        yield client
