"""Fixtures of a fleet on the shared servers, or on servers of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet
from tests.servers import SharedServers

#: Parts of log lines that only an unexpected error writes.
BUGS = ("(a bug;", "never retrieved", "never awaited", "unhandled")


@pytest.fixture
def make_fleet(
    tmp_path: Path, postgres_dsn: str, redis_url: str, stream_name: str, etcd_endpoint: str, etcd_prefix: str
) -> Iterator[Callable[..., Fleet]]:
    """Return a function that makes a fleet. Its keywords replace shared servers with those of the test."""
    fleets: list[Fleet] = []

    def make(**replacements: str) -> Fleet:
        servers = {
            "dsn": postgres_dsn,
            "redis_url": redis_url,
            "stream": stream_name,
            "etcd_endpoint": etcd_endpoint,
            "etcd_prefix": etcd_prefix,
        } | replacements
        fleets.append(fleet := Fleet(tmp_path, servers))
        return fleet

    yield make
    for fleet in fleets:
        fleet.stop()
        for process in fleet.processes:
            assert not any(sign in process.output for sign in BUGS), process.output[-3000:]


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet], servers: SharedServers) -> Fleet:
    """Return a fleet on the shared servers."""
    return make_fleet()
