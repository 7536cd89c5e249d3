"""Tests of traces: a valid traceparent, its source, and the job that keeps it."""

from __future__ import annotations

from typing import Any

import pytest

from taskd.runtime.tracing import thread
from tests.unit.api_world import Recorder, asking

OURS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203332-00"


@pytest.mark.parametrize(
    "text",
    [
        "", "x", OURS.upper(), OURS + "-x", OURS[3:], OURS.replace("00-", "ff-", 1), 7, None,
        "00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    ],
)  # fmt: skip
def test_an_invalid_traceparent_is_ignored(text: object) -> None:
    assert thread(text) is None
    assert thread(OURS) == OURS


@pytest.mark.parametrize(
    ("header", "metadata", "kept"),
    [
        (None, {}, {}),
        (OURS, {}, {"traceparent": OURS}),
        (OURS, {"a": 1}, {"a": 1, "traceparent": OURS}),
        (OURS, {"traceparent": OTHER}, {"traceparent": OTHER}),
        (OURS, {"traceparent": "nonsense"}, {"traceparent": OURS}),
        ("nonsense", {"a": 1}, {"a": 1}),
    ],
)
async def test_the_trace_of_a_client_is_kept_with_its_job(
    header: str | None, metadata: dict[str, Any], kept: Any
) -> None:
    world = Recorder()
    headers = {"traceparent": header} if header is not None else {}
    job = {"payload": 1, "metadata": metadata}
    async with asking(world, headers=headers) as client:
        assert (await client.post("/jobs", json=job)).status_code == 201
        assert (await client.post("/jobs/batch", json={"jobs": [job, {"payload": 2}]})).status_code == 201
    single, first, second = world.specs
    assert single.metadata == first.metadata == kept
    assert second.metadata == ({"traceparent": header} if header == OURS else {})
