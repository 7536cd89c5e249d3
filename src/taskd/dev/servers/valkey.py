"""A private Valkey or Redis."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from taskd.dev.child_process import Program
from taskd.dev.servers.ports import LOOPBACK
from taskd.dev.servers.server import Server, environment


class RedisServer(Server):
    """Valkey or Redis that refuses writes when its memory is full. `durable` keeps entries over restarts."""

    title: ClassVar[str] = "Redis"
    stop_signal: ClassVar[int] = signal.SIGTERM

    def __init__(
        self,
        binary: Path,
        folder: Path,
        *,
        log: Path,
        port: int | None = None,
        run: Path | None = None,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Store the parts. `settings` override the defaults."""
        super().__init__(binary, folder, log=log, port=port, run=run)
        self.durable = durable
        self._settings = settings or {}

    @property
    def url(self) -> str:
        """redis://HOST:PORT."""
        return f"redis://{self.address}"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def program(self) -> Program:
        settings = {
            "port": str(self.port),
            "bind": LOOPBACK,
            "dir": str(self.folder),
            "maxmemory-policy": "noeviction",
            "appendonly": "yes" if self.durable else "no",
            "save": "",
            "daemonize": "no",
            **self._settings,
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return Program(argv=[self.binary, *arguments], environment=environment(("REDIS_", "VALKEY_")))

    def probe(self) -> str | None:
        try:
            with self.connect() as client:
                client.ping()
        except (redis.RedisError, OSError) as error:
            return str(error)
        return None

    def flush(self) -> None:
        """Empty it with FLUSHALL."""
        with self.connect() as client:
            client.flushall()

    def connect(self) -> redis.Redis:
        """Return a client that waits 2 seconds at most and retries nothing."""
        return redis.Redis(
            host=LOOPBACK,
            port=self.port,
            socket_timeout=2,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 0),
        )
