"""A pool of executors for tests, with the outcome of every attempt."""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from taskd.domain.job import JobInfo
from taskd.domain.outcome import Completed, Outcome
from taskd.domain.output import Chunk, Line
from taskd.seams import Order
from taskd.settings import TaskSettings
from taskd.worker.pool.pool import EndedAttempt, ExecutorPool
from taskd.worker.pool.protocol import Answer, Denial, NoteMessage, TaskMessage
from tests.servers import wait_until_async

NOW = datetime.now(UTC)
APP = "tests.integration.executor_tasks"


class Bench:
    """A pool of executors, and the outcome of every attempt that was begun."""

    def __init__(
        self,
        *,
        app: str = APP,
        processes: int = 1,
        slots: int = 4,
        max_result_bytes: int = 100_000,
        max_log_bytes: int = 0,
        tasks: TaskSettings | None = None,
        stop_grace: float = 0.5,
    ) -> None:
        self.notes: list[NoteMessage] = []
        self.chunks: list[Chunk] = []
        #: Number of a job's messages that had arrived before its end.
        self.heard: dict[int, list[str]] = {}
        self.keep: bool | None = True
        self.ends: dict[int, list[Outcome]] = defaultdict(list)
        self._number = 0
        self.executors = ExecutorPool(
            app=app,
            processes=processes,
            slots=slots,
            worker_id="w",
            stop_grace=stop_grace,
            max_result_bytes=max_result_bytes,
            max_error_bytes=4_000,
            max_log_bytes=max_log_bytes,
            on_end=self._on_end,
            on_message=self._on_message,
            tasks=tasks,
        )

    def _on_end(self, ended: Sequence[EndedAttempt]) -> None:
        for (job_id, attempt), outcome, output in ended:
            assert attempt == 7
            if output is not None:
                self.chunks.append(output)
            self.ends[job_id].append(outcome)
            self.heard[job_id] = self.texts(job_id)

    def _on_message(self, message: TaskMessage, reply: Callable[[Answer], None]) -> None:
        if isinstance(message, Chunk):
            self.chunks.append(message)
            return
        assert isinstance(message, NoteMessage)
        self.notes.append(message)
        if message.checkpoint is not None and self.keep is not None:
            reply(Answer(*message.attempt_id, message.number, 0, None if self.keep else Denial.FENCED, "not yours"))

    def texts(self, job_id: int) -> list[str]:
        """Return the lines of an attempt that have arrived."""
        chunks = [chunk for chunk in self.chunks if chunk.job_id == job_id]
        return [line.text for chunk in chunks for line in msgspec.json.decode(chunk.body, type=list[Line])]

    def order(self, task: str, payload: str = "{}", timeout: float | None = None) -> Order:
        self._number += 1
        return Order(JobInfo(self._number, task, "default", 0, payload.encode(), NOW, NOW, timeout, {}, 3, 0, "w"), 7)

    async def begin(self, *orders: Order) -> None:
        await self.executors.available()
        self.executors.begin(orders)

    async def ended(self, *orders: Order, timeout: float = 30.0) -> list[Outcome]:
        await wait_until_async(lambda: all(self.ends[o.job_id] for o in orders), timeout)
        return [self.ends[o.job_id][0] for o in orders]

    async def run(self, task: str, payload: str = "{}", timeout: float | None = None) -> Outcome:
        return await self.finish(self.order(task, payload, timeout))

    async def finish(self, order: Order) -> Outcome:
        await self.begin(order)
        (outcome,) = await self.ended(order)
        return outcome

    async def result(self, task: str, **payload: Any) -> Any:
        """Return the result of a job. Raises AssertionError unless it completes."""
        outcome = await self.run(task, json.dumps(payload), timeout=25)
        assert isinstance(outcome, Completed), outcome
        return json.loads(bytes(outcome.result))


@contextlib.contextmanager
def redirected(path: Path) -> Iterator[None]:
    """Let processes that are started in the block have this file as their stderr."""
    before = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def text(path: Path) -> str:
    """Return the text of a file, for async tests."""
    return path.read_text()


@contextlib.asynccontextmanager
async def running(bench: Bench, stderr: Path | None = None) -> AsyncIterator[Bench]:
    """Run the executors of a bench in the block, with this file as their stderr."""
    with redirected(stderr) if stderr is not None else contextlib.nullcontext():
        await bench.executors.start()
    try:
        yield bench
    finally:
        await bench.executors.close()
