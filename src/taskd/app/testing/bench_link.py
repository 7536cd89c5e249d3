"""The link of an attempt in a bench: records what a worker would receive."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from taskd.app.testing.fake_transaction import FakeTransaction
from taskd.app.testing.run import Run
from taskd.app.values import plain
from taskd.domain.errors import Unstorable
from taskd.domain.storable import json_encoder, to_json


class LockTable:
    """The names that are locked in one bench, with the fences of their holders."""

    def __init__(self) -> None:
        self.holders: dict[str, int] = {}
        self.fences = itertools.count(1)
        self.guard = threading.Lock()


class BenchLink:
    """Implements `taskd.seams.Link` by writing to a Run."""

    def __init__(self, run: Run, locks: LockTable, transaction: FakeTransaction) -> None:
        self.cancelled = threading.Event()
        self._transaction = transaction
        self._run = run
        self._locks = locks

    def progress(self, fraction: float, message: str) -> None:
        """Record the progress. Raises Unstorable as in a worker."""
        if not 0 <= fraction <= 1:
            raise Unstorable(f"progress is a number from 0 to 1, not {fraction!r}")
        self._run.progress.append((fraction, message))
        if self._run.hear is not None:
            self._run.hear(fraction, message)

    def checkpoint(self, value: Any) -> Future[int]:
        """Record the checkpoint as it comes back from JSON. Raises Unstorable for a value that is no JSON."""
        self._run.checkpoint = json.loads(to_json(value, sys.maxsize, "the checkpoint", json_encoder(plain)))
        stored = Future[int]()
        stored.set_result(0)
        return stored

    def lock(self, name: str, wait: float | None) -> tuple[int, Future[int]]:
        """Grant the lock; the future raises TimeoutError at once if it is held, because its holder may never let go."""
        if not name:
            raise ValueError("a lock needs a name")
        granted = Future[int]()
        with self._locks.guard:
            fence = next(self._locks.fences)
            if name in self._locks.holders:
                granted.set_exception(TimeoutError(f"the lock {name!r} is held by another attempt of this bench"))
            else:
                self._locks.holders[name] = fence
                granted.set_result(fence)
        return fence, granted

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a block on the test's connection."""
        return self._transaction.transaction()

    def transaction_sync(self) -> AbstractContextManager[Any]:
        """Open a block on the test's connection."""
        return self._transaction.transaction_sync()

    def complete(self, value: Any) -> None:
        """Record the result."""
        self._transaction.complete(value)

    def unlock(self, number: int) -> None:
        """Release the lock with this fence."""
        with self._locks.guard:
            self._locks.holders = {name: fence for name, fence in self._locks.holders.items() if fence != number}
