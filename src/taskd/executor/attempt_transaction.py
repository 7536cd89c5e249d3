"""The transaction of an attempt: the task's own writes and the completion of its job commit together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import Enum, auto
from typing import Any

from taskd.domain.storable import Encode, to_json
from taskd.seams import Order, TaskConnections

_ONCE = "the transaction of this attempt was committed, and its job is completed: there can be no other"
_NESTED = "ctx.transaction() is open already: an attempt has one at a time (conn.transaction() makes a savepoint)"


class TransactionState(Enum):
    """The state of an attempt's transaction."""

    READY = auto()
    OPEN = auto()
    COMMITTED = auto()


class AttemptTransaction:
    """At most one transaction at a time, and none after one that was committed. A transaction that was rolled back leaves
    nothing."""

    def __init__(
        self, order: Order, limit: int, connections: Callable[[], TaskConnections], encode: Encode | None = None
    ) -> None:
        self._order = order
        self._encode = encode
        self._limit = limit
        self._connections = connections
        self._state = TransactionState.READY
        self._interrupt: Callable[[], None] | None = None
        self.result = b"null"
        #: The attempt's latest progress, for history.
        self.progress: bytes | None = None

    @property
    def over(self) -> bool:
        """True if the job is completed."""
        return self._state is TransactionState.COMMITTED

    def committed(self) -> None:
        """Note that the transaction was committed."""
        self._state = TransactionState.COMMITTED

    def complete(self, value: Any) -> None:
        """Keep the result. Raises Unstorable (a ValueError) for what is no JSON, RuntimeError outside of a transaction."""
        if self._state is not TransactionState.OPEN:
            raise RuntimeError("ctx.complete(result) belongs into the block of ctx.transaction()")
        self.result = to_json(value, self._limit, encode=self._encode, strict_keys=self._encode is None)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """Open the transaction of an async task."""
        self._begin()
        try:
            async with self._connections().transaction(self._order.job_id, self._order.attempt, self) as connection:
                yield connection
        finally:
            self._end()

    @contextmanager
    def transaction_sync(self) -> Iterator[Any]:
        """Open the transaction of a plain task."""
        self._begin()
        try:
            with self._connections().transaction_sync(self._order.job_id, self._order.attempt, self) as connection:
                self._interrupt = connection.give_up
                yield connection
        finally:
            self._interrupt = None
            self._end()

    def interrupt(self) -> None:
        """End the statement that the thread of a plain task may wait for, where no exception reaches it."""
        interrupt = self._interrupt
        if interrupt is not None:
            interrupt()

    def _begin(self) -> None:
        if self._state is not TransactionState.READY:
            raise RuntimeError(_ONCE if self.over else _NESTED)
        self._state, self.result = TransactionState.OPEN, b"null"

    def _end(self) -> None:
        if not self.over:
            self._state = TransactionState.READY
