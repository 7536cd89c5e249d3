"""A private PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import psycopg

from taskd.dev.child_process import ChildProcess, Program
from taskd.dev.servers import postgres_home
from taskd.dev.servers.owner import Owner, unprivileged
from taskd.dev.servers.ports import LOOPBACK
from taskd.dev.servers.server import Server, ServerFailed, environment
from taskd.store.pinned import startup

USER = "taskd"
DATABASE = "taskd"
INITDB_DEADLINE = 60.0

#: fsync and synchronous_commit stay on: accepted jobs survive a power cut.
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresServer(Server):
    """PostgreSQL with the database `taskd`, open to every process on this machine. Started by root, it runs as another user."""

    title: ClassVar[str] = "PostgreSQL"
    stop_signal: ClassVar[int] = signal.SIGINT  # "fast": ends sessions, then shuts down in order
    port_taken_message: ClassVar[str] = "ould not bind"
    predecessor_messages: ClassVar[tuple[str, ...]] = (
        'lock file "postmaster.pid" already exists',
        "pre-existing shared memory block",
        "is the old server process still running",
    )
    _owner: Owner | None = None

    def __init__(
        self,
        binary: Path,
        folder: Path,
        *,
        log: Path,
        port: int | None = None,
        run: Path | None = None,
        settings: Mapping[str, str] | None = None,
        extra_environment: Mapping[str, str] | None = None,
    ) -> None:
        """Store the parts. `settings` override the defaults; `extra_environment` is for the server, not for initdb."""
        super().__init__(binary, folder, log=log, port=port, run=run)
        self._settings = settings or {}
        extra = [f"{name}={value}" for name, value in (extra_environment or {}).items()]
        # Not in the launcher's environment: an LD_PRELOAD there would take effect as root first.
        self._extra = ["/usr/bin/env", *extra] if extra else []

    @property
    def dsn(self) -> str:
        """The connection string of the database `taskd`."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """Return the connection string of another database."""
        return f"postgresql://{USER}@{self.address}/{database}"

    def prepare(self) -> None:
        """Run initdb once. A half-made folder of an interrupted initdb is made again."""
        self._owner = unprivileged()
        self.binary = postgres_home.programs(self.binary, self._owner)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder = postgres_home.data(self.folder, self._owner)
        if (self.folder / "PG_VERSION").exists():
            return
        fresh = self.folder.with_name(f"{self.folder.name}.new")
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        if self._owner is not None:
            os.chown(fresh, self._owner.uid, self._owner.gid)
        self._initdb(fresh)
        if self.folder.exists():
            self.folder.rmdir()  # raises if it is not empty: foreign data are never removed
        fresh.rename(self.folder)

    def program(self) -> Program:
        settings = {**SETTINGS, "port": str(self.port), **self._settings}
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        return self._program(*self._extra, self.binary / "postgres", "-D", self.folder, *arguments)

    def probe(self) -> str | None:
        try:
            with psycopg.connect(
                self.dsn_of("postgres"), connect_timeout=3, autocommit=True, sslmode="disable", **startup()
            ) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                if known is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.Error as error:
            return str(error).strip()
        return None

    def _initdb(self, folder: Path) -> None:
        arguments = [
            "--username",
            USER,
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]
        child = ChildProcess("initdb", self.child.log)
        child.spawn(self._program(self.binary / "initdb", "-D", folder, *arguments))
        ended = child.ended_within(INITDB_DEADLINE, time.sleep)
        child.kill()
        if not ended or child.exit_status != 0:
            tail = " / ".join(child.output().strip().splitlines()[-3:])
            raise ServerFailed(f"initdb failed (exit status {child.exit_status}): {tail}; its log: {child.log}")

    def _program(self, *argv: str | Path) -> Program:
        return Program(
            argv=argv,
            environment=environment(("PG", "LC_", "LANG")),
            folder=self.folder.parent,
            owner=self._owner,
            death_signal=self.stop_signal,
        )
