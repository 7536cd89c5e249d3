"""A task's transaction inside a test: on the test's own connection, and no job is completed by it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from taskd.app.results import Results

_NO_CONNECTION = (
    "app.testing() has no PostgreSQL: give it a psycopg connection of the test's own, app.testing(connection=conn), "
    "or run the task on a cluster"
)


class Rehearsal:
    """The rules of `ctx.transaction`, with a block of the given connection instead of a transaction: what the test makes of
    that decides whether anything stays."""

    def __init__(self, connection: Any, results: Results) -> None:
        self._connection = connection
        self._results = results
        self._open = False
        self.completed = False
        self.result: Any = None

    def complete(self, value: Any) -> None:
        """Keep it, as a handle would read it. Raises Unstorable for what a worker would not store."""
        if not self._open:
            raise RuntimeError("ctx.complete(result) belongs into the block of ctx.transaction()")
        self.result = self._results.travelled(value)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """For an async task; the connection is asynchronous."""
        self._begin()
        try:
            if not self._connection.autocommit:
                await self._connection.execute(
                    "SELECT 1"
                )  # so that the test's own transaction is open, and ours within it
            async with self._connection.transaction():
                yield self._connection
            self.completed = True
        finally:
            self._open = False

    @contextmanager
    def transaction_sync(self) -> Iterator[Any]:
        """For a plain one; the connection is not."""
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
