"""Real servers that the tests share, in a temporary folder that is removed however the session ends."""

from __future__ import annotations

import asyncio
import fcntl
import inspect
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import psycopg

from taskd.dev.servers.binaries import Binaries
from taskd.dev.servers.servers import Servers
from taskd.store.migrations import migrate

PREFIX = "taskd-tests-"
TEMPLATE = "taskd_template"
POLL = 0.01

Seen = TypeVar("Seen")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that the Unix user of PostgreSQL may enter. Removes the folders of killed sessions first."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _sweep(folder)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o711)
    with (folder / "lock.new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The lock is held before it has its name, so that no other session removes the folder.
        (folder / "lock.new").rename(folder / "lock")
        yield folder
        shutil.rmtree(folder)


def _sweep(folder: Path) -> None:
    try:
        with (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # a folder of another user, or of a live session


class SharedServers(Servers):
    """One server of each kind for all tests, which use separate databases, stream names and etcd prefixes."""

    def __init__(self, binaries: Binaries, folder: Path) -> None:
        super().__init__(binaries, folder, durable_redis=False)
        self._migrated = False

    def clone_database(self) -> str:
        """Return the DSN of a new database with the current schema. `drop_database` removes it."""
        if not self._migrated:
            self._execute(f'CREATE DATABASE "{TEMPLATE}"')
            migrate(self.postgres.dsn_of(TEMPLATE))
            self._migrated = True
        name = f"test_{uuid4().hex}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"')
        return self.postgres.dsn_of(name)

    def empty_database(self) -> str:
        """Return the DSN of a new, empty database."""
        name = f"test_{uuid4().hex}"
        self._execute(f'CREATE DATABASE "{name}"')
        return self.postgres.dsn_of(name)

    def drop_database(self, dsn: str) -> None:
        """Remove a database, and end the connections to it."""
        self._execute(f'DROP DATABASE IF EXISTS "{dsn.rpartition("/")[2]}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.postgres.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


def wait_until(condition: Callable[[], Seen], timeout: float = 20.0) -> Seen:
    """Return the first true value of `condition`, called every 10 ms. Raises AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (seen := condition()):
        assert time.monotonic() < deadline, _unmet(condition, timeout)
        time.sleep(POLL)
    return seen


async def wait_until_async(condition: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Variant of `wait_until` for a plain or an async `condition` that does not block the event loop."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        seen = await result if inspect.isawaitable(result) else result
        if seen:
            return seen
        assert time.monotonic() < deadline, _unmet(condition, timeout)
        await asyncio.sleep(POLL)


def _unmet(condition: object, timeout: float) -> str:
    code = getattr(condition, "__code__", None)
    where = f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code is not None else ""
    return f"not within {timeout:.0f} s: {getattr(condition, '__name__', condition)}{where}"
