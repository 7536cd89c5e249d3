"""Runs attempts inside an executor: async tasks on the loop, plain functions in threads."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from taskd.domain.storable import plainly
from taskd.executor import capture, task_scope
from taskd.executor.background_threads import BackgroundThreads
from taskd.executor.capture import Capture
from taskd.executor.link import WorkerLink
from taskd.executor.redirection import Streams
from taskd.executor.results import ResultEncoder
from taskd.executor.running_attempt import RunningAttempt
from taskd.executor.task_scope import TaskScope
from taskd.executor.threads import ThreadPool
from taskd.runtime import forks, tracing
from taskd.runtime.log import logger
from taskd.seams import Invocation, Order, TaskConnections, TaskRegistry
from taskd.worker.pool.protocol import Answer, End, EndKind, LinkMessage

#: Seconds that processes of a stopped attempt get to end by themselves, at most.
GRACE = 1.0
#: Seconds after which a thread that was interrupted and has not stopped is taken to wait for a process, at most.
BLOCKED = 0.25
#: Threads occupied by ended attempts from which on another executor is to take this one's place.
EXHAUSTED = 50


class Runner:
    """Begins attempts, stops them, and tells each one's end once, many at a time.

    An end is told when the attempt's code has stopped: its coroutine or function, and every asyncio task that it has started.
    Those are cancelled when the coroutine is over; while one of them does not end, neither does the attempt, so that its
    time-out and the worker's patience go on counting. Of an attempt that was stopped, processes are ended too. Threads that it
    has started are beyond reach (see Offspring).
    """

    def __init__(
        self,
        tasks: TaskRegistry,
        app: str,
        results: ResultEncoder,
        tell: Callable[[list[End]], None],
        tell_word: Callable[[LinkMessage], None],
        patience: float,
        desk: Callable[[], TaskConnections],
        capture: Capture | None = None,
        helpers: BackgroundThreads | None = None,
        tell_exhausted: Callable[[str], None] = lambda reason: None,
        streams: Streams | None = None,
    ) -> None:
        self._helpers = helpers
        self._tell_exhausted = tell_exhausted
        self._exhausted = False
        self._desk = desk
        self._streams = streams
        self._capture = capture
        self._tasks = tasks
        self._encoders = {name: tasks.encoder(name) for name in tasks.names}
        self._encode_checkpoint = plainly(tasks.plain)
        self._app = app
        self._results = results
        self._tell = tell
        self._tell_word = tell_word
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(task_scope.start)
        self._seats = ThreadPool(self._loop)
        self._running: dict[tuple[int, int], RunningAttempt] = {}
        self._ends: list[End] = []
        self._endings: set[asyncio.Task[None]] = set()
        self._home = _folder()
        forks.in_child(self._silence)

    def begin(self, orders: Sequence[Order]) -> None:
        """Start these attempts."""
        if self._streams is not None:
            self._streams.look(alone=not self._running)
        for order in orders:
            running = RunningAttempt(order, self._link, self._capture)
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

    def _link(self, order: Order) -> WorkerLink:
        encode, limit = self._encoders[order.task], self._results.max_result
        return WorkerLink(order, limit, self._loop, self._tell_word, self._desk, encode, self._encode_checkpoint)

    def _silence(self) -> None:
        """In a fork: what it prints and logs is not the attempt's."""
        for running in list(self._running.values()):
            running.over = True

    def _mark(self, running: RunningAttempt) -> None:
        running.stopping, running.asked = True, self._loop.time()
        if running.link is not None:
            running.link.stop()

    def _interrupt(self, running: RunningAttempt) -> None:
        if running.seat is not None:
            running.seat.interrupt()
            if running.link is not None:
                running.link.interrupt()
            self._loop.call_later(min(BLOCKED, self._patience / 2), self._release, running)

    def _release(self, running: RunningAttempt) -> None:
        """End the processes of a thread that did not stop: it may wait for one of them, where no exception reaches it."""
        if running.seat is not None and running.family is not None and running.family.processes:
            self._see_to(self._reap(running, running.family))

    def _see_to(self, ending: Coroutine[Any, Any, None]) -> None:
        self._endings.add(task := asyncio.Task(ending, loop=self._loop))
        task.add_done_callback(self._endings.discard)

    def _start(self, running: RunningAttempt, invocation: Invocation) -> None:
        order = running.order
        self._running[order.job_id, order.attempt] = running
        running.family = TaskScope(asynchronous=invocation.asynchronous)
        if invocation.asynchronous:
            # Not by the factory: this one is nobody's offspring.
            running.task = asyncio.Task(self._run(running, invocation), loop=self._loop)
            return
        seat = running.seat = self._seats.take()
        seat.give(lambda: self._call(running, invocation), lambda end: self._left(running, end))

    async def _run(self, running: RunningAttempt, invocation: Invocation) -> None:
        running.entered = True
        family = running.family
        assert family is not None
        family.adopt()
        capture.listen(running.speak)
        try:
            with tracing.adopted(running.order.metadata):
                value = await invocation()
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end the attempt, not the process
            forks.leave(error)
            end = self._results.raised(running.order, error)
        else:
            forks.leave()
            end = self._results.returned(running.order, value, self._encoders[running.order.task])
        family.over = True
        if family.tasks:
            await self._clear(running, family)
        if family.processes and running.stopping:
            await self._reap(running, family)
        self._finish(running, end)

    @staticmethod
    async def _clear(running: RunningAttempt, family: TaskScope) -> None:
        """Wait until what the attempt has left behind has ended. Being stopped meanwhile is passed on to that."""
        log = running.log
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

    async def _reap(self, running: RunningAttempt, family: TaskScope) -> None:
        """End the processes of a stopped attempt, before the worker's own patience is over."""
        left = running.asked + 1.5 * self._patience - self._loop.time()
        try:
            pids = await family.end_processes(min(GRACE, max(0.0, left)))
        except Exception:
            running.log.error("processes of a stopped attempt may run on", exc_info=True)
            return
        if pids:
            running.log.warning("the attempt was stopped: processes that it had started were ended", pids=pids)

    async def _end_plain(self, running: RunningAttempt, family: TaskScope, end: End) -> None:
        try:
            await self._reap(running, family)
        finally:
            self._finish(running, end)

    def _call(self, running: RunningAttempt, invocation: Invocation) -> End:
        assert running.family is not None
        running.family.adopt()
        capture.listen(running.speak)
        try:
            with tracing.adopted(running.order.metadata):
                value = invocation()
        except BaseException as error:  # noqa: BLE001 - as in _run
            forks.leave(error)
            end = self._results.raised(running.order, error)
        else:
            forks.leave()
            end = self._results.returned(running.order, value, self._encoders[running.order.task])
        running.finished = not running.stopping
        return end

    def _left(self, running: RunningAttempt, end: End | None) -> None:
        seat = running.seat
        if seat is not None:
            running.seat = None
            self._seats.give_back(seat)
            end, family = end or self._results.stopped(running.order), running.family
            if running.stopping and family is not None and family.processes:
                self._see_to(self._end_plain(running, family, end))
            else:
                self._finish(running, end)

    def _finish(self, running: RunningAttempt, end: End) -> None:
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
        try:
            family = running.family
            if family is not None and (family.share is not None or family.moved):
                self._leave_behind(running, family)
        except Exception:  # noqa: BLE001 - as above
            logger().error("what an attempt left behind is not seen to", job=order.job_id, exc_info=True)
        if running.link is not None and running.link.settled:
            end = self._recorded(running, end)
        elif running.stopping:
            end = self._results.stopped(order, end)
        if end.how is EndKind.FAILED and not _opens_files():
            self._ask_for_a_successor("attempts that have ended left no file descriptor to others")
        self._add(end if said is None else msgspec.structs.replace(end, said=said))

    def _leave_behind(self, running: RunningAttempt, family: TaskScope) -> None:
        """See to what the attempt has left to others: threads that it occupies, and the current folder."""
        helpers = self._helpers
        threads = family.close(helpers, stopped=running.stopping)
        if threads:
            running.log.warning(
                "the attempt ended before functions that it had given to threads: they run on", threads=threads
            )
        if helpers is not None and helpers.abandoned >= EXHAUSTED:
            self._ask_for_a_successor(f"{helpers.abandoned} threads are occupied by attempts that have ended")
        if family.moved and self._home and (left := _folder()) != self._home:
            running.log.warning("the task changed the current folder of its executor: changed back", folder=left)
            os.chdir(self._home)

    def _ask_for_a_successor(self, reason: str) -> None:
        if not self._exhausted:
            self._exhausted = True
            self._tell_exhausted(reason)

    @staticmethod
    def _recorded(running: RunningAttempt, end: End) -> End:
        """The job is completed: what its code came to after that changes nothing, but its author may want to know."""
        order = running.order
        if end.how is not EndKind.COMPLETED and not running.stopping:
            running.log.warning(
                "the task did not end well after its transaction, which had completed the job", error=end.data.decode()
            )
        return End(order.job_id, order.attempt, EndKind.RECORDED)

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


def _folder() -> str:
    """The current folder; empty if it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _opens_files() -> bool:
    """True if this process may open a file. Asked after failures: attempts share the limit of descriptors."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno != errno.EMFILE
    return True
