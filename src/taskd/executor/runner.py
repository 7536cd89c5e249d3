"""Runs attempts inside an executor: async tasks on the loop, plain functions in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from taskd.domain.job import AttemptId
from taskd.domain.storable import plainly
from taskd.executor import task_scope
from taskd.executor.background_threads import BackgroundThreads
from taskd.executor.capture import Capture, attribute_output
from taskd.executor.cleanup import Cleanup
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

#: The most seconds after which a thread that was interrupted and has not stopped is taken to wait for a process.
BLOCKED = 0.25


class Runner:
    """Begins attempts, stops them, and sends each one's end once, many in a message.

    An end is sent when the attempt's code has stopped: its coroutine or function, and every asyncio task that it has started.
    Those are cancelled when the coroutine is over. While one of them does not end, neither does the attempt, so that its
    time-out and the worker's patience go on counting. Of an attempt that was stopped, processes are ended too. Threads that it
    has started cannot be stopped (see TaskScope).
    """

    def __init__(
        self,
        tasks: TaskRegistry,
        app: str,
        results: ResultEncoder,
        send_ends: Callable[[list[End]], None],
        send: Callable[[LinkMessage], None],
        patience: float,
        connections: Callable[[], TaskConnections],
        capture: Capture | None = None,
        background: BackgroundThreads | None = None,
        request_successor: Callable[[str], None] = lambda reason: None,
        streams: Streams | None = None,
    ) -> None:
        self._tasks = tasks
        self._app = app
        self._encoders = {name: tasks.encoder(name) for name in tasks.names}
        self._encode_checkpoint = plainly(tasks.plain)
        self._results = results
        self._send_ends = send_ends
        self._send = send
        self._patience = patience
        self._connections = connections
        self._capture = capture
        self._streams = streams
        self._cleanup = Cleanup(background, patience, request_successor)
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(task_scope.create_task)
        self._threads = ThreadPool(self._loop)
        self._running: dict[AttemptId, RunningAttempt] = {}
        self._ends: list[End] = []
        self._cleaning: set[asyncio.Task[None]] = set()
        forks.in_child(self._silence)

    def begin(self, orders: Sequence[Order]) -> None:
        """Start these attempts."""
        if self._streams is not None:
            self._streams.restore(alone=not self._running)
        for order in orders:
            running = RunningAttempt(order, self._link, self._capture)
            try:
                invocation = self._tasks.prepare(order, running.open_link)
            except LookupError:
                self._add(self._unknown(order))
            except BaseException as error:  # noqa: BLE001 - whatever the payload or the user's types raise ends this attempt only
                self._add(self._results.raised(order, error))
            else:
                self._start(running, invocation)

    def stop(self, attempt_id: AttemptId) -> None:
        """Ask this attempt to stop, if it still runs."""
        running = self._running.get(attempt_id)
        if running is None or running.stopping or running.finished:
            return
        if running.task is not None and running.task.cancel():
            self._mark_stopping(running)
            if not running.entered:  # its coroutine will never run, so it reports no end
                self._finish(running, self._results.stopped(running.order))
        elif running.thread is not None:
            self._mark_stopping(running)
            if running.link is not None and running.link.watched:
                self._loop.call_later(self._patience, self._interrupt, running)
            else:
                self._interrupt(running)

    def answer(self, answer: Answer) -> None:
        """Hand the worker's answer to the attempt that waits for it."""
        running = self._running.get(answer.attempt_id)
        if running is not None and running.link is not None:
            running.link.answer(answer)

    def _link(self, order: Order) -> WorkerLink:
        encode, limit = self._encoders[order.job.task], self._results.max_result
        return WorkerLink(order, limit, self._loop, self._send, self._connections, encode, self._encode_checkpoint)

    def _silence(self) -> None:
        """Keep no output in a fork: it is not the attempt's."""
        for running in list(self._running.values()):
            running.over = True

    def _mark_stopping(self, running: RunningAttempt) -> None:
        running.stopping, running.stop_asked_at = True, self._loop.time()
        if running.link is not None:
            running.link.stop()

    def _interrupt(self, running: RunningAttempt) -> None:
        if running.thread is not None:
            running.thread.interrupt()
            if running.link is not None:
                running.link.interrupt()
            self._loop.call_later(min(BLOCKED, self._patience / 2), self._unblock, running)

    def _unblock(self, running: RunningAttempt) -> None:
        """End the processes of a thread that did not stop: it may wait for one of them, where no exception reaches it."""
        if running.thread is not None and running.scope is not None and running.scope.processes:
            self._clean(self._cleanup.end_processes(running, running.scope))

    def _clean(self, work: Coroutine[Any, Any, None]) -> None:
        self._cleaning.add(task := asyncio.Task(work, loop=self._loop))
        task.add_done_callback(self._cleaning.discard)

    def _start(self, running: RunningAttempt, invocation: Invocation) -> None:
        self._running[running.order.attempt_id] = running
        running.scope = scope = TaskScope(asynchronous=invocation.asynchronous)
        if invocation.asynchronous:
            # Not by the task factory: this task is in no scope.
            running.task = asyncio.Task(self._run(running, scope, invocation), loop=self._loop)
            return
        running.thread = self._threads.take()
        running.thread.run(
            lambda: self._call(running, scope, invocation), lambda end: self._thread_ended(running, scope, end)
        )

    async def _run(self, running: RunningAttempt, scope: TaskScope, invocation: Invocation) -> None:
        running.entered = True
        scope.enter()
        attribute_output(running.open_buffer)
        try:
            with tracing.adopted(running.order.job.metadata):
                value = await invocation()
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end the attempt, not the process
            forks.leave(error)
            end = self._results.raised(running.order, error)
        else:
            forks.leave()
            end = self._results.returned(running.order, value, self._encoders[running.order.job.task])
        scope.over = True
        if scope.tasks:
            await self._cleanup.end_tasks(running, scope)
        if scope.processes and running.stopping:
            await self._cleanup.end_processes(running, scope)
        self._finish(running, end)

    def _call(self, running: RunningAttempt, scope: TaskScope, invocation: Invocation) -> End:
        scope.enter()
        attribute_output(running.open_buffer)
        try:
            with tracing.adopted(running.order.job.metadata):
                value = invocation()
        except BaseException as error:  # noqa: BLE001 - as in _run
            forks.leave(error)
            end = self._results.raised(running.order, error)
        else:
            forks.leave()
            end = self._results.returned(running.order, value, self._encoders[running.order.job.task])
        running.finished = not running.stopping
        return end

    def _thread_ended(self, running: RunningAttempt, scope: TaskScope, end: End | None) -> None:
        """Finish a plain function's attempt; `end` is None if the thread was interrupted. May be called twice."""
        if running.thread is None:
            return
        self._threads.give_back(running.thread)
        running.thread = None
        end = end or self._results.stopped(running.order)
        if running.stopping and scope.processes:
            self._clean(self._finish_after_processes(running, scope, end))
        else:
            self._finish(running, end)

    async def _finish_after_processes(self, running: RunningAttempt, scope: TaskScope, end: End) -> None:
        try:
            await self._cleanup.end_processes(running, scope)
        finally:
            self._finish(running, end)

    def _finish(self, running: RunningAttempt, end: End) -> None:
        """Send the end of an attempt whose code has stopped. If it was asked to stop, it ends as stopped."""
        order, output = running.order, None
        if self._running.pop(order.attempt_id, None) is None:
            return
        try:
            running.close()
            if running.buffer is not None and self._capture is not None:
                output = self._capture.take_rest(running.buffer)
        except Exception:  # noqa: BLE001 - whatever it is, the attempt has ended
            logger().error("the last output of an attempt is lost", job=order.job_id, exc_info=True)
        try:
            scope = running.scope
            if scope is not None and (scope.share is not None or scope.folder_changed):
                self._cleanup.release(running, scope)
        except Exception:  # noqa: BLE001 - as above
            logger().error(
                "threads or the folder that an attempt left are not put right", job=order.job_id, exc_info=True
            )
        if running.link is not None and running.link.settled:
            end = self._recorded(running, end)
        elif running.stopping:
            end = self._results.stopped(order, end)
        if end.kind is EndKind.FAILED:
            self._cleanup.check_descriptors()
        self._add(end if output is None else msgspec.structs.replace(end, output=output))

    @staticmethod
    def _recorded(running: RunningAttempt, end: End) -> End:
        """Return the end of an attempt whose transaction has completed the job. A failure after that is only logged."""
        order = running.order
        if end.kind is not EndKind.COMPLETED and not running.stopping:
            running.log.warning(
                "the task did not end well after its transaction, which had completed the job", error=end.data.decode()
            )
        return End(order.job_id, order.attempt, EndKind.RECORDED)

    def _unknown(self, order: Order) -> End:
        known = ", ".join(sorted(self._tasks.names)) or "none"
        return self._results.failed(
            order, f"there is no task {order.job.task!r} in the app {self._app}; it has: {known}"
        )

    def _add(self, end: End) -> None:
        self._ends.append(end)
        if len(self._ends) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        ends, self._ends = self._ends, []
        self._send_ends(ends)
