"""Runs attempts inside an executor: async tasks on the loop, plain functions in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from taskd.seams import Invocation, Order, Tasks
from taskd.worker.frames import End
from taskd.worker.results import Results
from taskd.worker.threads import Seat, Seats, Stopped


class Running:
    """One attempt that has begun."""

    __slots__ = ("entered", "finished", "order", "seat", "stopping", "task")

    def __init__(self, order: Order) -> None:
        self.order = order
        self.task: asyncio.Task[None] | None = None
        self.seat: Seat | None = None
        self.entered = False
        self.finished = False
        self.stopping = False


class Runner:
    """Begins attempts, stops them, and tells each one's end once, many at a time."""

    def __init__(self, tasks: Tasks, app: str, results: Results, tell: Callable[[list[End]], None]) -> None:
        self._tasks = tasks
        self._app = app
        self._results = results
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._seats = Seats(self._loop)
        self._running: dict[tuple[int, int], Running] = {}
        self._ends: list[End] = []

    def begin(self, orders: Sequence[Order]) -> None:
        """Start these attempts."""
        for order in orders:
            try:
                invocation = self._tasks.prepare(order)
            except LookupError:
                self._add(self._unknown(order))
            except BaseException as error:  # noqa: BLE001 - whatever the payload or the user's types raise ends this attempt only
                self._add(self._results.raised(order, error))
            else:
                self._start(order, invocation)

    def stop(self, job_id: int, attempt: int) -> None:
        """Ask this attempt to stop, if it still runs."""
        running = self._running.get((job_id, attempt))
        if running is None or running.stopping or running.finished:
            return
        if running.task is not None and running.task.cancel():
            running.stopping = True
            if not running.entered:  # its coroutine will never run, so it cannot tell
                self._finish(running, self._results.stopped(running.order))
        elif running.seat is not None:
            running.stopping = True
            running.seat.interrupt()

    def _start(self, order: Order, invocation: Invocation) -> None:
        running = Running(order)
        self._running[order.job_id, order.attempt] = running
        if invocation.asynchronous:
            running.task = self._loop.create_task(self._run(running, invocation))
            return
        seat = running.seat = self._seats.take()
        seat.give(lambda: self._call(running, invocation), lambda end: self._left(running, end))

    async def _run(self, running: Running, invocation: Invocation) -> None:
        running.entered = True
        try:
            value = await invocation()
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end the attempt, not the process
            end = self._results.raised(running.order, error)
        else:
            end = self._results.returned(running.order, value)
        self._finish(running, end)

    def _call(self, running: Running, invocation: Invocation) -> End:
        try:
            value = invocation()
        except Stopped:
            raise
        except BaseException as error:  # noqa: BLE001 - as in _run
            end = self._results.raised(running.order, error)
        else:
            end = self._results.returned(running.order, value)
        running.finished = not running.stopping
        return end

    def _left(self, running: Running, end: End | None) -> None:
        seat = running.seat
        if seat is not None:
            running.seat = None
            self._seats.give_back(seat)
            self._finish(running, end or self._results.stopped(running.order))

    def _finish(self, running: Running, end: End) -> None:
        """The user's code has stopped. What it made of being asked to stop is not its own end."""
        order = running.order
        if self._running.pop((order.job_id, order.attempt), None) is not None:
            self._add(self._results.stopped(order) if running.stopping else end)

    def _unknown(self, order: Order) -> End:
        known = ", ".join(sorted(self._tasks.names)) or "none"
        return self._results.failed(order, f"there is no task {order.task!r} in the app {self._app}; it has: {known}")

    def _add(self, end: End) -> None:
        self._ends.append(end)
        if len(self._ends) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        ends, self._ends = self._ends, []
        self._tell(ends)
