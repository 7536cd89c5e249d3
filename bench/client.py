"""Submits to taskd as the peers' scripts do to theirs: by its own client, on one connection.

BENCH_URL names the scheduler.
"""

from __future__ import annotations

import os

from bench.peers.common import command
from taskd.client import Client

_client = Client(os.environ["BENCH_URL"], timeout=60.0)


def one(sent: int) -> None:
    """Submit one job."""
    _client.submit({"task": "noop", "payload": {"sent": sent}})


def bulk(jobs: int) -> None:
    """Submit many in one request."""
    _client.submit_batch([{"task": "noop", "payload": {"sent": 0}}] * jobs)


if __name__ == "__main__":
    command(one, bulk)
