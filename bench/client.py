"""Submits to taskd as the peers' scripts submit to theirs, by HTTP on one connection. In the environment: BENCH_URL."""

from __future__ import annotations

import os

import httpx
import msgspec

from bench.peers.common import command

_client = httpx.AsyncClient(base_url=os.environ["BENCH_URL"], timeout=60.0)
_headers = {"content-type": "application/json"}


async def one(sent: int) -> None:
    """Submit one job."""
    body = msgspec.json.encode({"task": "noop", "payload": {"sent": sent}})
    (await _client.post("/jobs", content=body, headers=_headers)).raise_for_status()


async def bulk(jobs: int) -> None:
    """Submit many in one request."""
    body = msgspec.json.encode({"jobs": [{"task": "noop", "payload": {"sent": 0}} for _ in range(jobs)]})
    (await _client.post("/jobs/batch", content=body, headers=_headers)).raise_for_status()


if __name__ == "__main__":
    command(one, bulk)
