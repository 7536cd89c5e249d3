"""Fixtures of all tests. A missing server fails the tests that need it; no test is skipped for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from taskd.dev.servers import binaries
from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.postgres import PostgresServer
from taskd.dev.servers.valkey import RedisServer
from taskd.domain.errors import ConfigurationError
from taskd.store.migrations import migrate
from tests.servers import SharedServers, temporary_folder

# A warning is an error in the processes that tests start, too. A ResourceWarning is only printed: it comes while an object is
# deleted, where nothing can be raised.
os.environ["PYTHONWARNINGS"] = "error,default::ResourceWarning"


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """A folder for this session's servers that other Unix users may enter."""
    with temporary_folder() as folder:
        yield folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --servers. The default is the servers of the wheels, so that every machine tests the same ones."""
    choices = ("embedded", "system", "auto")
    parser.addoption("--servers", choices=choices, default="embedded", help="the servers to run on, as in `taskd dev`")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name the servers of this run."""
    try:
        programs = _binaries(config)
    except ConfigurationError as error:
        return [f"servers: {error}"]
    return [f"servers: {name} {binaries.version_of(program)} ({program})" for name, program in programs.programs()]


def _binaries(config: pytest.Config) -> Binaries:
    return binaries.find(binaries.Search(source=config.getoption("--servers")))


@pytest.fixture(scope="session")
def server_binaries(pytestconfig: pytest.Config) -> Binaries:
    """Paths of the servers' programs."""
    return _binaries(pytestconfig)


@pytest.fixture(scope="session")
def servers(server_binaries: Binaries, session_folder: Path) -> Iterator[SharedServers]:
    """One PostgreSQL, one Redis and one etcd for the whole session: `.postgres`, `.redis`, `.etcd`. Never stop these."""
    shared = SharedServers(server_binaries, session_folder / "shared")
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture
def postgres_dsn(servers: SharedServers) -> Iterator[str]:
    """A database for this test alone, with the current schema."""
    dsn = servers.clone_database()
    yield dsn
    servers.drop_database(dsn)


@pytest.fixture
def redis_url(servers: SharedServers) -> str:
    """The shared Redis: keep to keys that start with `stream_name`, and never flush it."""
    return servers.redis.url


@pytest.fixture
def stream_name(servers: SharedServers) -> Iterator[str]:
    """A prefix for this test alone. Its keys are removed afterwards."""
    name = f"test-{uuid4().hex}"
    yield name
    with servers.redis.connect() as client:
        for key in client.scan_iter(match=f"*{name}*", count=1000):
            client.delete(key)


@pytest.fixture
def etcd_endpoint(servers: SharedServers) -> str:
    """The shared etcd, HOST:PORT: keep to keys under `etcd_prefix`."""
    return servers.etcd.endpoint


@pytest.fixture
def etcd_prefix() -> str:
    """A prefix for this test alone."""
    return f"/test-{uuid4().hex}"


@pytest.fixture
def private_folder(session_folder: Path) -> Path:
    """A new folder that other Unix users may enter (pytest's `tmp_path` is closed to them)."""
    folder = session_folder / f"private-{uuid4().hex[:12]}"
    folder.mkdir(mode=0o711)
    return folder


@pytest.fixture
def private_postgres(server_binaries: Binaries, private_folder: Path) -> Iterator[PostgresServer]:
    """A migrated PostgreSQL to mistreat: stop(), start(), kill(), suspend(), resume(); `.dsn`."""
    server = PostgresServer(server_binaries.postgres, private_folder / "postgres", log=private_folder / "postgres.log")
    server.start()
    migrate(server.dsn)
    yield server
    server.kill()


@pytest.fixture
def private_redis(server_binaries: Binaries, private_folder: Path) -> Iterator[RedisServer]:
    """A Redis without persistence to mistreat: stop(), start(), kill(), suspend(), resume(), flush(); `.url`."""
    server = RedisServer(
        server_binaries.redis, private_folder / "redis", log=private_folder / "redis.log", durable=False
    )
    server.start()
    yield server
    server.kill()


@pytest.fixture
def private_etcd(server_binaries: Binaries, private_folder: Path) -> Iterator[EtcdServer]:
    """An etcd to mistreat: stop(), start(), kill(), suspend(), resume(), wipe(); `.endpoint`."""
    server = EtcdServer(server_binaries.etcd, private_folder / "etcd", log=private_folder / "etcd.log")
    server.start()
    yield server
    server.kill()
