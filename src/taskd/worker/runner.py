"""Runs attempts inside an executor: async tasks on the loop, plain functions in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import msgspec

from taskd.runtime import tracing
from taskd.runtime.log import logger
from taskd.seams import Desk, Invocation, Order, Tasks
from taskd.worker import capture, offspring
from taskd.worker.capture import Capture, Voice
from taskd.worker.frames import Answer, End, How, Word
from taskd.worker.hearing import Streams
from taskd.worker.link import Link
from taskd.worker.offspring import Offspring
from taskd.worker.results import Results
from taskd.worker.threads import Seat, Seats


class Running:
    """One attempt that has begun."""

    __slots__ = (
        "_capture",
        "_make",
        "entered",
        "finished",
        "link",
        "order",
        "over",
        "seat",
        "stopping",
        "task",
        "voice",
    )

    def __init__(self, order: Order, make: Callable[[Order], Link], capture: Capture | None) -> None:
        self.order = order
        self._make = make
        self._capture = capture
        self.voice: Voice | None = None
        self.over = False
        self.link: Link | None = None
        self.task: asyncio.Task[None] | None = None
        self.seat: Seat | None = None
        self.entered = False
        self.finished = False
        self.stopping = False

    def open(self) -> Link:
        """Its link to the worker, made at the first use."""
        if self.link is None:
            link = self._make(self.order)
            with _opening:
                if self.link is None:
                    self.link = link
        if self.stopping:  # who stops sets this first and looks for a link then
            self.link.mark()
        return self.link

    def speak(self) -> Voice | None:
        """Its voice, made at the first use; None once it has ended."""
        if self.over or self._capture is None:
            return None
        if self.voice is None:
            voice = self._capture.voice(self.order)
            with _opening:
                if self.voice is None:
                    self.voice = voice
        return self.voice

    def close(self) -> None:
        """Its code has stopped: what it said of itself last is told now."""
        self.over = True
        self.task = None  # its context knows the attempt: a circle, which would wait for the garbage collector
        if self.link is not None:
            self.link.close()
        if self.voice is not None:
            self.voice.close()


#: Threads of a task may all be the first to use its link, or its voice. Nothing is made and nothing called while this is held:
#: that may start the garbage collector, and what that ends may want to speak as well.
_opening = threading.Lock()


class Runner:
    """Begins attempts, stops them, and tells each one's end once, many at a time.

    An end is told when the attempt's code has stopped: its coroutine or function, and every asyncio task that it has started.
    Those are cancelled when the coroutine is over; while one of them does not end, neither does the attempt, so that its
    time-out and the worker's patience go on counting. Threads that it has started are beyond reach (see Offspring).
    """

    def __init__(
        self,
        tasks: Tasks,
        app: str,
        results: Results,
        tell: Callable[[list[End]], None],
        tell_word: Callable[[Word], None],
        patience: float,
        desk: Callable[[], Desk],
        capture: Capture | None = None,
        streams: Streams | None = None,
    ) -> None:
        self._desk = desk
        self._streams = streams
        self._capture = capture
        self._tasks = tasks
        self._app = app
        self._results = results
        self._tell = tell
        self._tell_word = tell_word
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(offspring.start)
        self._seats = Seats(self._loop)
        self._running: dict[tuple[int, int], Running] = {}
        self._ends: list[End] = []

    def begin(self, orders: Sequence[Order]) -> None:
        """Start these attempts."""
        for order in orders:
            running = Running(order, self._link, self._capture)
            try:
                invocation = self._tasks.prepare(order, running.open)
            except LookupError:
                self._add(self._unknown(order))
            except BaseException as error:  # noqa: BLE001 - whatever the payload or the user's types raise ends this attempt only
                self._add(self._results.raised(order, error))
            else:
                self._start(running, invocation)

    def stop(self, job_id: int, attempt: int) -> None:
        """Ask this attempt to stop, if it still runs."""
        running = self._running.get((job_id, attempt))
        if running is None or running.stopping or running.finished:
            return
        if running.task is not None and running.task.cancel():
            self._mark(running)
            if not running.entered:  # its coroutine will never run, so it cannot tell
                self._finish(running, self._results.stopped(running.order))
        elif running.seat is not None:
            self._mark(running)
            if running.link is not None and running.link.watched:
                self._loop.call_later(self._patience, self._interrupt, running)
            else:
                self._interrupt(running)

    def answer(self, answer: Answer) -> None:
        """What the worker says to something that an attempt has asked."""
        running = self._running.get((answer.job_id, answer.attempt))
        if running is not None and running.link is not None:
            running.link.answer(answer)

    def _link(self, order: Order) -> Link:
        return Link(order, self._results.max_result, self._loop, self._tell_word, self._desk)

    @staticmethod
    def _mark(running: Running) -> None:
        running.stopping = True
        if running.link is not None:
            running.link.stop()

    @staticmethod
    def _interrupt(running: Running) -> None:
        if running.seat is not None:
            running.seat.interrupt()
            if running.link is not None:
                running.link.interrupt()

    def _start(self, running: Running, invocation: Invocation) -> None:
        order = running.order
        if self._streams is not None:
            self._streams.look(alone=not self._running)
        self._running[order.job_id, order.attempt] = running
        if invocation.asynchronous:
            # Not by the factory: this one is nobody's offspring.
            running.task = asyncio.Task(self._run(running, invocation), loop=self._loop)
            return
        seat = running.seat = self._seats.take()
        seat.give(lambda: self._call(running, invocation), lambda end: self._left(running, end))

    async def _run(self, running: Running, invocation: Invocation) -> None:
        running.entered = True
        family = Offspring()
        family.adopt()
        capture.listen(running.speak)
        try:
            with tracing.adopted(running.order.metadata):
                value = await invocation()
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end the attempt, not the process
            end = self._results.raised(running.order, error)
        else:
            end = self._results.returned(running.order, value)
        family.over = True
        if family.tasks:
            await self._clear(running.order, family)
        self._finish(running, end)

    @staticmethod
    async def _clear(order: Order, family: Offspring) -> None:
        """Wait until what the attempt has left behind has ended. Being stopped meanwhile is passed on to that."""
        log = logger().bind(job=order.job_id, attempt=order.attempt, task=order.task)
        if left := family.cancel():
            log.warning("the task ended before asyncio tasks that it had started; they are cancelled", coroutines=left)
        told = False
        while family.tasks:
            try:
                if not await family.ended() and not told:
                    told = True
                    log.warning("asyncio tasks do not end when they are cancelled, and so their attempt does not end")
            except asyncio.CancelledError:
                family.cancel()

    def _call(self, running: Running, invocation: Invocation) -> End:
        capture.listen(running.speak)
        try:
            with tracing.adopted(running.order.metadata):
                value = invocation()
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
        order, said = running.order, None
        if self._running.pop((order.job_id, order.attempt), None) is None:
            return
        try:
            running.close()
            if running.voice is not None and self._capture is not None:
                said = self._capture.last(running.voice)
        except Exception:  # noqa: BLE001 - whatever it is, the attempt has ended
            logger().error("the last that an attempt said is lost", job=order.job_id, exc_info=True)
        if running.link is not None and running.link.settled:
            end = self._recorded(running, end)
        elif running.stopping:
            end = self._results.stopped(order, end)
        self._add(end if said is None else msgspec.structs.replace(end, said=said))

    @staticmethod
    def _recorded(running: Running, end: End) -> End:
        """The job is completed: what its code came to after that changes nothing, but its author may want to know."""
        order = running.order
        if end.how is not How.COMPLETED and not running.stopping:
            log = logger().bind(job=order.job_id, attempt=order.attempt, task=order.task)
            log.warning(
                "the task did not end well after its transaction, which had completed the job", error=end.data.decode()
            )
        return End(order.job_id, order.attempt, How.RECORDED)

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
