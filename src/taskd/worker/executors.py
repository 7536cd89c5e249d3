"""The worker's executors: a few child processes that run user code, watched, stopped, killed and replaced from here."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence

from msgspec import Raw

from taskd.domain.errors import ConfigurationError
from taskd.domain.outcome import Completed, Crashed, Failed, Outcome, Released, TimedOut
from taskd.runtime.log import logger
from taskd.seams import Order
from taskd.settings import Log
from taskd.worker.child import Attempt, Child
from taskd.worker.frames import End, How, Ready, Setup, Unusable
from taskd.worker.guarding import Guarding
from taskd.worker.loading import BUILTIN

#: Seconds before a next try when executors keep dying at their start: doubled each time, up to the second figure.
BACKOFF = (0.5, 30.0)
#: Seconds after which a start that is not done is worth a line in the log.
SLOW_START = 10.0
#: Seconds that idle executors may take to exit in good order.
FAREWELL = 2.0

OnEnd = Callable[[list[tuple[int, int, Outcome]]], None]


class Executors:
    """Runs attempts in child processes and reports each one's end exactly once, when its code has certainly stopped.

    1. Hands attempts out evenly. 2. Stops what ran too long or was called off: asks, waits `stop_grace` seconds, kills.
    3. Replaces executors that died or were killed. 4. Keeps the guard informed, which kills them should this process hang.
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
        on_end: OnEnd,
        log: Log | None = None,
    ) -> None:
        self.restarts = 0
        self.tasks: tuple[str, ...] = ()
        count = max(1, min(processes, slots))
        self._shares = [slots // count + (place < slots % count) for place in range(count)]
        log = log or Log()
        self._app = app or BUILTIN
        self._worker_id = worker_id
        self._limits = (max_result_bytes, max_error_bytes)
        self._log = (log.level, log.format)
        self._grace = stop_grace
        self._on_end = on_end
        self._guard = Guarding()
        self._starting: list[Child] = []
        self._live: list[Child] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._ended: list[tuple[int, int, Outcome]] = []
        self._freed = asyncio.Event()
        self._closing = asyncio.Event()

    async def start(self) -> None:
        """Start the executors and return when each has loaded the app. Raises ConfigurationError if it does not load."""
        self._loop = asyncio.get_running_loop()
        await self._guard.start()
        ready = [self._loop.create_future() for _ in self._shares]
        self._keepers = [
            asyncio.create_task(self._keep(share, first)) for share, first in zip(self._shares, ready, strict=True)
        ]
        try:
            while (await asyncio.wait(ready, timeout=SLOW_START))[1]:
                logger().warning("the app is still being imported", app=self._app)
        except BaseException:
            await self.close()
            raise
        problems = [first.result() for first in ready if first.result() is not None]
        if problems:
            await self.close()
            raise ConfigurationError(problems[0])

    @property
    def running(self) -> int:
        """How many attempts have begun and not ended."""
        return sum(len(child.attempts) for child in self._live)

    @property
    def free(self) -> int:
        """How many attempts can begin right now."""
        return sum(child.room for child in self._live)

    async def available(self) -> None:
        """Return when there is a free slot."""
        while self.free <= 0:
            self._freed.clear()
            await self._freed.wait()

    def begin(self, orders: Sequence[Order]) -> None:
        """Run these attempts. Those for which there is no slot (any more), or no lease, end as Released."""
        expired = self._guard.expired
        batches: dict[Child, list[Order]] = {}
        for order in orders:
            child = None if expired else max(self._live, key=lambda c: c.room, default=None)
            if child is None or child.room <= 0:
                reason = "lease ran out" if expired else "no executor was free"
                self._report(order.job_id, order.attempt, Released(reason))
                continue
            attempt = Attempt((order.job_id, order.attempt), child)
            child.attempts[attempt.key] = attempt
            if order.timeout is not None:
                attempt.deadline = self._loop.call_later(
                    order.timeout, self._ask, attempt, TimedOut(after=order.timeout)
                )
            batches.setdefault(child, []).append(order)
        for child, batch in batches.items():
            for order in child.begin(batch):
                self._end(child, order.job_id, order.attempt, Failed("a number in the metadata has more than 64 bits"))

    def stop(self, job_id: int, attempt: int, outcome: Outcome) -> None:
        """Stop this attempt, if it runs: it ends as `outcome` unless it ends by itself before it is asked."""
        for child in self._live:
            found = child.attempts.get((job_id, attempt))
            if found is not None:
                self._ask(found, outcome)

    def lease(self, until: float) -> None:
        """The guard is to kill every executor at `until` (seconds of guard.clock()); infinity switches it off."""
        self._guard.lease(until)

    def kill(self) -> None:
        """SIGKILL all executors; their attempts end as Released, unless they were being stopped."""
        for child in list(self._live):
            child.kill("the worker killed its executors")

    async def close(self) -> None:
        """End the executors and the guard. Attempts that still run are killed and end as Released."""
        self._closing.set()
        for child in list(self._starting):
            child.kill("the worker is closing")
        await asyncio.gather(*(self._farewell(child) for child in list(self._live)))
        await asyncio.gather(*self._keepers)
        await self._guard.close()
        self._flush()

    async def _farewell(self, child: Child) -> None:
        if child.attempts:
            child.kill("the worker is closing")
        else:
            await child.dismiss(FAREWELL)

    async def _keep(self, share: int, first: asyncio.Future[str | None]) -> None:
        """Keep one executor with `share` slots; `first` gets None, or why the first one cannot be used."""
        failed_starts = 0
        while not self._closing.is_set():
            child = Child(share, self._hear)
            problem = await self._raise(child)
            if not first.done():
                first.set_result(problem)
            if problem is None:
                failed_starts = 0
                await self._bury(child)
                self.restarts += not self._closing.is_set()
            elif not self._closing.is_set():
                delay = min(BACKOFF[1], BACKOFF[0] * 2**failed_starts)
                failed_starts += 1
                logger().error("an executor does not start", reason=problem, retry_in=delay)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), delay)

    async def _raise(self, child: Child) -> str | None:
        """Start an executor; None, or why it cannot be used (it has ended then)."""
        try:
            await child.spawn()
        except OSError as error:
            return f"an executor process cannot be started: {error}"
        self._guard.watch(child.pid)
        self._starting.append(child)
        if self._closing.is_set():
            child.kill("the worker is closing")
        answer = await child.load(Setup(self._app, child.slots, *self._limits, self._worker_id, *self._log))
        self._starting.remove(child)
        if isinstance(answer, Ready):
            self.tasks = tuple(answer.tasks)
            self._live.append(child)
            self._freed.set()
            return None
        child.kill("it is of no use")
        status = await child.gone()
        self._guard.forget(child.pid)
        if isinstance(answer, Unusable):
            return answer.reason
        return f"app {self._app!r}: its executor process {fate(status)} while the app was being imported"

    async def _bury(self, child: Child) -> None:
        """Wait for the executor's end, and end the attempts that it still had."""
        status = await child.gone()
        guarded = self._guard.killed(child.pid)
        self._guard.forget(child.pid)
        self._live.remove(child)
        outcome = _verdict(child, status, guarded)
        if not self._closing.is_set():
            logger().warning(
                "an executor ended, starting another", pid=child.pid, attempts=len(child.attempts), why=_text(outcome)
            )
        for key, attempt in list(child.attempts.items()):
            own = attempt.stopping if isinstance(outcome, Released) else None
            self._end(child, *key, own or outcome)

    def _ask(self, attempt: Attempt, outcome: Outcome) -> None:
        """Ask an attempt to stop; the first to ask decides the outcome."""
        if attempt.stopping is None:
            attempt.stopping = outcome
            attempt.child.halt(attempt.key)
            attempt.limit = self._loop.call_later(self._grace, self._insist, attempt)

    def _insist(self, attempt: Attempt) -> None:
        job_id, number = attempt.key
        logger().warning("a task does not stop, killing its executor", job=job_id, attempt=number)
        attempt.child.kill(f"attempt {number} of job {job_id} did not stop, and its executor had to be killed")

    def _hear(self, child: Child, ends: list[End]) -> None:
        for end in ends:
            attempt = child.attempts.get((end.job_id, end.attempt))
            if attempt is not None:
                self._end(child, end.job_id, end.attempt, _outcome(end, attempt.stopping))

    def _end(self, child: Child, job_id: int, number: int, outcome: Outcome) -> None:
        attempt = child.attempts.pop((job_id, number))
        for timer in (attempt.deadline, attempt.limit):
            if timer is not None:
                timer.cancel()
        self._report(job_id, number, outcome)

    def _report(self, job_id: int, number: int, outcome: Outcome) -> None:
        self._ended.append((job_id, number, outcome))
        if len(self._ended) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        ended, self._ended = self._ended, []
        if ended:
            self._freed.set()
            self._on_end(ended)


def fate(status: int) -> str:
    """What became of a process, in words: `status` is its exit status, or -n for signal n."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (out of memory? the kernel's log would say so)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def _verdict(child: Child, status: int, guarded: bool) -> Crashed | Released:
    """How an executor's end counts for the attempts that it had."""
    if status == -signal.SIGKILL and guarded:
        return Released("lease ran out")
    if status == -signal.SIGKILL and child.doom is not None:
        return Released(child.doom)
    if status == -signal.SIGKILL and child.unheard:
        return Crashed("the executor process closed its connection to the worker and was killed")
    return Crashed(f"the executor process {fate(status)} while the task ran")


def _text(outcome: Crashed | Released) -> str:
    return outcome.error if isinstance(outcome, Crashed) else outcome.reason


def _outcome(end: End, stopping: Outcome | None) -> Outcome:
    match end.how:
        case How.COMPLETED:
            return Completed(Raw(end.data))
        case How.STOPPED:
            return stopping or Released("the task was stopped")
        case how:
            return Failed(end.data.decode(), permanent=how is How.FAILED_FOR_GOOD, again_at=end.again_at)
