"""A fleet on the shared servers, and one whose servers a test may mistreat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet
from tests.servers import SharedServers

#: What a process prints only when something went wrong that nobody thought of.
BUGS = ("(a bug;", "never retrieved", "never awaited", "unhandled")


@pytest.fixture
def make_fleet(
    tmp_path: Path, postgres_dsn: str, redis_url: str, stream_name: str, etcd_endpoint: str, etcd_prefix: str
) -> Iterator[Callable[..., Fleet]]:
    """Makes a fleet; the keywords replace one of the shared servers by one of the test's own."""
    made: list[Fleet] = []

    def make(**own: str) -> Fleet:
        servers = {
            "dsn": postgres_dsn,
            "redis_url": redis_url,
            "stream": stream_name,
            "etcd_endpoint": etcd_endpoint,
            "etcd_prefix": etcd_prefix,
        } | own
        made.append(fleet := Fleet(tmp_path, servers))
        return fleet

    yield make
    for fleet in made:
        fleet.stop()
        for process in fleet.processes:
            assert not any(sign in process.output for sign in BUGS), process.output[-3000:]


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet], servers: SharedServers) -> Fleet:
    """A fleet on the shared servers."""
    return make_fleet()
