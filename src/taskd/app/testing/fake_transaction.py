"""`ctx.transaction` inside a test: a block on the test's own connection, which completes no job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from taskd.app.results import ResultCodec

_NO_CONNECTION = (
    "app.testing() has no PostgreSQL: give it a psycopg connection of the test's own, app.testing(connection=conn), "
    "or run the task on a cluster"
)


class FakeTransaction:
    """Follows the rules of `ctx.transaction` with a nested block of the given connection.

    The test's own transaction around it decides whether the writes stay.
    """

    def __init__(self, connection: Any, results: ResultCodec) -> None:
        self._connection = connection
        self._results = results
        self._open = False
        self.completed = False
        self.result: Any = None

    def complete(self, value: Any) -> None:
        """Keep the result as a handle would read it. Raises Unstorable for a value that a worker would not store."""
        if not self._open:
            raise RuntimeError("ctx.complete(result) belongs into the block of ctx.transaction()")
        self.result = self._results.travelled(value)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Open the block for an async task, on an asynchronous connection."""
        self._begin()
        try:
            if not self._connection.autocommit:
                await self._connection.execute("SELECT 1")  # opens the test's own transaction, which this one nests in
            async with self._connection.transaction():
                yield self._connection
            self.completed = True
        finally:
            self._open = False

    @contextmanager
    def transaction_sync(self) -> Iterator[Any]:
        """Open the block for a plain task, on a blocking connection."""
        self._begin()
        try:
            if not self._connection.autocommit:
                self._connection.execute("SELECT 1")
            with self._connection.transaction():
                yield self._connection
            self.completed = True
        finally:
            self._open = False

    def _begin(self) -> None:
        if self._connection is None:
            raise RuntimeError(_NO_CONNECTION)
        if self._open or self.completed:
            raise RuntimeError("an attempt has one ctx.transaction() at a time, and none after one that was committed")
        self._open, self.result = True, None
