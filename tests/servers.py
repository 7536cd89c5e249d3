"""The servers that the tests share: real ones, in a temporary folder, gone when the session ends, however it ends."""

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
    """A folder that PostgreSQL's own user may enter; what killed sessions left is swept first."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _sweep(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o711)
    with (folder / "lock.new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Another session that sweeps finds it held, from its first moment to the folder's end.
        (folder / "lock.new").rename(folder / "lock")
        yield folder
        shutil.rmtree(folder)


def _sweep(folder: Path) -> None:
    try:
        with (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # somebody else's, or a session that is alive


class SharedServers(Servers):
    """One of each for all tests, which keep apart by database, stream name and etcd prefix."""

    def __init__(self, binaries: Binaries, folder: Path) -> None:
        super().__init__(binaries, folder, durable_redis=False)
        self._migrated = False

    def clone_database(self) -> str:
        """The DSN of a new database with the schema of today; `drop_database` removes it."""
        if not self._migrated:
            self._execute(f'CREATE DATABASE "{TEMPLATE}"')
            migrate(self.postgres.dsn_of(TEMPLATE))
            self._migrated = True
        name = f"test_{uuid4().hex}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"')
        return self.postgres.dsn_of(name)

    def empty_database(self) -> str:
        """The DSN of a new database with nothing in it."""
        name = f"test_{uuid4().hex}"
        self._execute(f'CREATE DATABASE "{name}"')
        return self.postgres.dsn_of(name)

    def drop_database(self, dsn: str) -> None:
        """Remove a database, ending whatever is connected to it."""
        self._execute(f'DROP DATABASE IF EXISTS "{dsn.rpartition("/")[2]}" WITH (FORCE)')

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.postgres.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


def wait_until(condition: Callable[[], Seen], timeout: float = 20.0) -> Seen:
    """The first true value of `condition`, asked every 10 ms. Raises AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (seen := condition()):
        assert time.monotonic() < deadline, _unmet(condition, timeout)
        time.sleep(POLL)
    return seen


async def wait_until_async(condition: Callable[[], Any], timeout: float = 20.0) -> Any:
    """As `wait_until`, for a plain or an async `condition`, without blocking the event loop."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        seen = await answer if inspect.isawaitable(answer) else answer
        if seen:
            return seen
        assert time.monotonic() < deadline, _unmet(condition, timeout)
        await asyncio.sleep(POLL)


def _unmet(condition: object, timeout: float) -> str:
    code = getattr(condition, "__code__", None)
    where = f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code is not None else ""
    return f"not within {timeout:.0f} s: {getattr(condition, '__name__', condition)}{where}"
