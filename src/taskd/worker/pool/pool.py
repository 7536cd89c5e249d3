"""A worker's pool of executors: it hands attempts out to processes, stops them, and reports their ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from taskd.domain.errors import ConfigurationError
from taskd.domain.job import AttemptId
from taskd.domain.outcome import Crashed, Failed, Outcome, Released, TimedOut
from taskd.domain.output import Chunk
from taskd.runtime.log import logger
from taskd.seams import Order
from taskd.settings import LogSettings, TaskSettings
from taskd.worker.pool.exit_status import outcome_of_end
from taskd.worker.pool.process import Assignment, ExecutorProcess
from taskd.worker.pool.protocol import BUILTIN, Answer, End, Setup, TaskMessage, Transactions
from taskd.worker.pool.supervisor import EXIT_PATIENCE, ProcessSupervisor

#: Why an order may not fit into a message.
UNSENDABLE = (
    "the job cannot be given to an executor: it is larger than 64 MiB, or its metadata has a number of over 64 bits"
)


class EndedAttempt(NamedTuple):
    """An attempt whose code has stopped; `output` has the last lines, if no earlier message had them."""

    attempt_id: AttemptId
    outcome: Outcome
    output: Chunk | None = None


OnEnd = Callable[[list[EndedAttempt]], None]
#: A message of a running attempt, and how to answer it.
OnMessage = Callable[[TaskMessage, Callable[[Answer], None]], None]


class ExecutorPool:
    """Runs attempts in child processes and reports each one's end exactly once, when its code has certainly stopped.

    1. Hands attempts out evenly. 2. Stops an attempt that ran too long or was called off: asks, waits `stop_grace` seconds,
    kills its executor. 3. Runs a suspect, an attempt of a job that was there when an executor crashed, in a process of its
    own: its neighbours pay for one crash of it, never for three.
    """

    def __init__(
        self,
        *,
        app: str,
        processes: int,
        slots: int,
        worker_id: str,
        stop_grace: float,
        max_result_bytes: int,
        max_error_bytes: int,
        max_log_bytes: int = 0,
        on_end: OnEnd,
        on_message: OnMessage,
        log: LogSettings | None = None,
        tasks: TaskSettings | None = None,
        transactions: Transactions | None = None,
    ) -> None:
        log = log or LogSettings()
        setup = Setup(
            app=app or BUILTIN,
            max_result_bytes=max_result_bytes,
            max_error_bytes=max_error_bytes,
            worker_id=worker_id,
            log_level=log.level,
            log_format=log.format,
            tasks=tasks or TaskSettings(),
            patience=stop_grace / 2,
            transactions=transactions or Transactions(),
            max_log_bytes=max_log_bytes,
        )
        self._freed = asyncio.Event()
        self._supervisor = ProcessSupervisor(
            setup, max(1, min(processes, slots)), self._make, on_exit=self._on_exit, on_ready=self._freed.set
        )
        self.resize(slots)
        self._grace = stop_grace
        self._on_end = on_end
        self._on_message = on_message
        self._suspects: dict[Assignment, asyncio.Task[None]] = {}
        self._ended: list[EndedAttempt] = []

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the app's tasks."""
        return self._supervisor.tasks

    @property
    def restarts(self) -> int:
        """The number of processes that ended and were replaced."""
        return self._supervisor.restarts

    def resize(self, slots: int) -> None:
        """Let so many attempts run at once from now on. Running attempts go on."""
        self.slots = slots
        self._supervisor.share(slots)
        self._freed.set()

    async def start(self, *, patient: bool = False) -> None:
        """Start the executors and return when each has loaded the app. Raises ConfigurationError if it does not load.

        A `patient` start logs that instead, and waits for a `reload`.
        """
        self._loop = asyncio.get_running_loop()
        try:
            problem = await self._supervisor.start(patient=patient)
        except BaseException:
            await self.close()
            raise
        if problem is not None and not patient:
            await self.close()
            raise ConfigurationError(problem)

    async def reload(self) -> bool:
        """Let new executors with the code of now take over; the old ones end their attempts. False if the code does not load:
        the old executors then go on. For pools whose start was patient."""
        return await self._supervisor.reload()

    @property
    def running(self) -> int:
        """The number of attempts that have begun and not ended."""
        return sum(len(process.attempts) for process in self._supervisor.live if process.slots) + len(self._suspects)

    @property
    def free(self) -> int:
        """The number of attempts that can begin now. A suspect takes a slot like any other, though not in a shared process."""
        free = sum(process.free for process in self._supervisor.live) - len(self._suspects)
        return max(0, min(free, self.slots - self.running))

    @property
    def stopping(self) -> list[int]:
        """The jobs whose attempts were asked to stop and have not stopped yet."""
        attempts = [attempt for process in self._all() for attempt in process.attempts.values()]
        return sorted(attempt.id.job_id for attempt in attempts if attempt.stopping is not None)

    async def available(self) -> None:
        """Return when there is a free slot."""
        while self.free <= 0:
            self._freed.clear()
            await self._freed.wait()

    def begin(self, orders: Sequence[Order]) -> None:
        """Run these attempts. Those for which there is no slot or no lease any more end as Released."""
        expired = self._supervisor.guard.expired
        rooms = {} if expired else {process: free for process in self._supervisor.live if (free := process.free) > 0}
        free = self.free
        batches: dict[ExecutorProcess, list[Order]] = {}
        for order in orders:
            process = max(rooms, key=rooms.__getitem__, default=None)
            if process is None or rooms[process] <= 0 or free <= 0:
                reason = "lease ran out" if expired else "no executor was free"
                self._report(EndedAttempt(order.attempt_id, Released(reason)))
                continue
            free -= 1
            if order.suspect:
                self._isolate(order)
                continue
            rooms[process] -= 1
            attempt_id = order.attempt_id
            process.attempts[attempt_id] = Assignment(attempt_id, process)
            batches.setdefault(process, []).append(order)
        for process, batch in batches.items():
            self._hand_over(process, batch)

    def stop(self, attempt_id: AttemptId, outcome: Outcome) -> None:
        """Stop this attempt, if it runs: it ends as `outcome` unless it ends by itself before it is asked."""
        for process in self._all():
            attempt = process.attempts.get(attempt_id)
            if attempt is not None:
                self._ask_to_stop(attempt, outcome)

    def lease(self, until: float) -> None:
        """Let the guard kill every executor at `until` (seconds of guard.clock()); infinity switches that off."""
        self._supervisor.guard.lease(until)

    def kill(self) -> None:
        """SIGKILL all executors; their attempts end as Released, unless they were being stopped."""
        for process in self._all():
            process.kill("the worker killed its executors")

    async def close(self) -> None:
        """End the executors and the guard. Attempts that still run are killed and end as Released."""
        await self._supervisor.end_processes()
        await asyncio.gather(*self._suspects.values())
        await self._supervisor.close()
        self._flush()

    def _make(self, slots: int) -> ExecutorProcess:
        return ExecutorProcess(slots, self._on_ends, self._pass_on, self._supervisor.replace_exhausted)

    def _all(self) -> set[ExecutorProcess]:
        """Return all processes, also those of suspects that are only starting."""
        return {*self._supervisor.live, *(suspect.process for suspect in self._suspects)}

    def _hand_over(self, process: ExecutorProcess, orders: Sequence[Order]) -> None:
        """Start attempts that `process.attempts` has already; their time-outs run from here."""
        for order in orders:
            timeout = order.job.timeout
            if timeout is None:
                timeout = self._supervisor.timeouts.get(order.job.task)
            if timeout is not None:
                attempt = process.attempts[order.attempt_id]
                attempt.deadline = self._loop.call_later(timeout, self._ask_to_stop, attempt, TimedOut(after=timeout))
        for order in process.begin(orders):
            self._end(process, EndedAttempt(order.attempt_id, Failed(UNSENDABLE)))

    def _isolate(self, order: Order) -> None:
        process = ExecutorProcess(0, self._on_ends, self._pass_on)
        attempt = Assignment(order.attempt_id, process)
        attempt.ended = ended = asyncio.Event()
        process.attempts[attempt.id] = attempt
        self._suspects[attempt] = asyncio.create_task(self._run_alone(order, attempt, ended))

    async def _run_alone(self, order: Order, attempt: Assignment, ended: asyncio.Event) -> None:
        """Run one suspect in a process of its own, from that one's start to its end."""
        process = attempt.process
        problem = await self._supervisor.launch(process)
        if problem is not None:
            self._end(process, EndedAttempt(attempt.id, attempt.stopping or Released(problem)))
        else:
            reaping = asyncio.create_task(self._supervisor.reap(process))
            if attempt.stopping is None:
                self._hand_over(process, [order])
            else:
                self._end(process, EndedAttempt(attempt.id, attempt.stopping))
            waiting = asyncio.create_task(ended.wait())
            await asyncio.wait({reaping, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not reaping.done():
                await process.shut_down(EXIT_PATIENCE)
            await reaping
        del self._suspects[attempt]
        self._freed.set()

    def _ask_to_stop(self, attempt: Assignment, outcome: Outcome) -> None:
        """Ask an attempt to stop. The first outcome that it is asked to stop with stands."""
        if attempt.stopping is None:
            attempt.stopping = outcome
            if attempt.process in self._supervisor.live:  # a suspect's process may only be starting
                attempt.process.cancel(attempt.id)
            attempt.limit = self._loop.call_later(self._grace, self._kill_stuck, attempt)

    @staticmethod
    def _kill_stuck(attempt: Assignment) -> None:
        job_id, number = attempt.id
        logger().warning("a task does not stop, killing its executor", job=job_id, attempt=number)
        attempt.process.kill(f"attempt {number} of job {job_id} did not stop, and its executor had to be killed")

    def _on_ends(self, process: ExecutorProcess, ends: list[End]) -> None:
        for end in ends:
            attempt = process.attempts.get(end.attempt_id)
            if attempt is not None:
                self._end(process, EndedAttempt(attempt.id, outcome_of_end(end, attempt.stopping), end.output))

    def _on_exit(self, process: ExecutorProcess, outcome: Crashed | Released) -> None:
        """End the attempts that a process still had at its exit."""
        for attempt in list(process.attempts.values()):
            stopping = attempt.stopping if isinstance(outcome, Released) else None
            self._end(process, EndedAttempt(attempt.id, stopping or outcome))

    def _pass_on(self, process: ExecutorProcess, message: TaskMessage) -> None:
        if message.attempt_id in process.attempts:
            self._on_message(message, process.answer)

    def _end(self, process: ExecutorProcess, ended: EndedAttempt) -> None:
        attempt = process.attempts.pop(ended.attempt_id)
        if attempt.ended is not None:
            attempt.ended.set()
        for timer in (attempt.deadline, attempt.limit):
            if timer is not None:
                timer.cancel()
        if process.retired:
            self._supervisor.exit_if_idle(process)
        self._report(ended)

    def _report(self, ended: EndedAttempt) -> None:
        self._ended.append(ended)
        if len(self._ended) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        ended, self._ended = self._ended, []
        if ended:
            self._freed.set()
            self._on_end(ended)
