"""The three servers together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from taskd.dev.child_process import Pause
from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.etcd import EtcdServer
from taskd.dev.servers.postgres import PostgresServer
from taskd.dev.servers.server import START_DEADLINE, Server
from taskd.dev.servers.valkey import RedisServer


class Servers:
    """PostgreSQL, Redis and etcd, with data, `logs/` and `run/` (pid files) under `folder`."""

    def __init__(
        self,
        binaries: Binaries,
        folder: Path,
        *,
        durable_redis: bool = True,
        postgres: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        """Make the three. `postgres` are settings of that server; `ports`, by title, are used unless they get taken."""
        logs, run = folder / "logs", folder / "run"
        self.postgres = PostgresServer(
            binaries.postgres, folder / "postgres", log=logs / "postgres.log", run=run, settings=postgres
        )
        self.redis = RedisServer(
            binaries.redis, folder / "redis", log=logs / "redis.log", run=run, durable=durable_redis
        )
        self.etcd = EtcdServer(binaries.etcd, folder / "etcd", log=logs / "etcd.log", run=run)
        for server in self.all:
            server.port = (ports or {}).get(server.title, server.port)

    @property
    def all(self) -> tuple[Server, Server, Server]:
        """The servers in the order of starting: PostgreSQL last, as its folder takes longest to make."""
        return (self.redis, self.etcd, self.postgres)

    def start(self, timeout: float = START_DEADLINE, pause: Pause = time.sleep) -> None:
        """Start all three at once and return when all answer. Raises ServerFailed, and leaves none running then."""
        try:
            for server in self.all:
                server.launch()
            for server in self.all:
                server.await_ready(timeout, pause)
        except BaseException:
            self.kill()
            raise

    def stop(self, grace: float = 10.0) -> None:
        """Shut all three down in an orderly way; kill one that takes longer than `grace` seconds."""
        for server in self.all:
            server.child.signal(server.stop_signal)
            server.resume()
        for server in self.all:
            server.stop(grace)

    def kill(self) -> None:
        """SIGKILL all three."""
        for server in self.all:
            server.kill()

    def settings(self) -> dict[tuple[str, str], str]:
        """Return the settings, by section and key, with which taskd finds the servers."""
        return {
            # Without TLS even if PGSSLMODE asks for it: this server is on loopback.
            ("postgres", "dsn"): f"{self.postgres.dsn}?sslmode=disable",
            ("redis", "url"): self.redis.url,
            ("etcd", "endpoints"): self.etcd.endpoint,
        }
