"""The worker's executors: a few child processes that run user code, watched, stopped, killed and replaced from here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from taskd.domain.errors import ConfigurationError
from taskd.domain.outcome import Failed, Outcome, Released, TimedOut
from taskd.domain.output import Chunk
from taskd.runtime.log import logger
from taskd.runtime.waiting import either, wait_for
from taskd.seams import Order
from taskd.settings import LogSettings, TaskSettings
from taskd.worker.pool.exit_status import fate, oom_kills, outcome_of, text_of, verdict_on
from taskd.worker.pool.guard_client import GuardClient
from taskd.worker.pool.process import Assignment, ExecutorProcess
from taskd.worker.pool.protocol import BUILTIN, Answer, End, Ready, Setup, TaskMessage, Transactions, Unusable

#: Seconds before a next try when executors keep dying at their start: doubled each time, up to the second figure.
BACKOFF = (0.5, 30.0)
#: Seconds after which a start that is not done is worth a line in the log.
SLOW_START = 10.0
#: Seconds that idle executors may take to exit in good order.
FAREWELL = 2.0

#: Why an order may not fit into a message.
UNSENDABLE = (
    "the job cannot be given to an executor: it is larger than 64 MiB, or its metadata has a number of over 64 bits"
)

#: A job, its attempt, how that ended, and the last that it said, if that was not told before.
Ending = tuple[int, int, Outcome, Chunk | None]
OnEnd = Callable[[list[Ending]], None]
#: What an attempt says while it runs, and how to answer it.
OnWord = Callable[[TaskMessage, Callable[[Answer], None]], None]


class ExecutorPool:
    """Runs attempts in child processes and reports each one's end exactly once, when its code has certainly stopped.

    1. Hands attempts out evenly. 2. Stops what ran too long or was called off: asks, waits `stop_grace` seconds, kills.
    3. Replaces executors that died or were killed. 4. Keeps the guard informed, which kills them should this process hang.
    5. Runs a suspect, an attempt of a job that was there when an executor crashed, in a process of its own: neighbours of a
    poisonous job pay for one crash of its, never for three. 6. For development: lets new executors with changed code take over.
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
        on_word: OnWord,
        log: LogSettings | None = None,
        tasks: TaskSettings | None = None,
        transactions: Transactions | None = None,
    ) -> None:
        self.restarts = 0
        self.tasks: tuple[str, ...] = ()
        self._timeouts: dict[str, float] = {}
        count = max(1, min(processes, slots))
        self._places: list[ExecutorProcess | None] = [None] * count
        self._freed = asyncio.Event()
        self.resize(slots)
        log = log or LogSettings()
        self._app = app or BUILTIN
        self._worker_id = worker_id
        self._limits = (max_result_bytes, max_error_bytes)
        self._log = (log.level, log.format)
        self._max_log = max_log_bytes
        self._outward = tasks or TaskSettings()
        self._transactions = transactions or Transactions()
        self._grace = stop_grace
        self._on_end = on_end
        self._on_word = on_word
        self._guard = GuardClient()
        self._starting: list[ExecutorProcess] = []
        self._live: list[ExecutorProcess] = []
        self._suspects: dict[Assignment, asyncio.Task[None]] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._ended: list[Ending] = []
        self._closing = asyncio.Event()
        #: With `patient` starts: set when a place whose code does not load is worth another try.
        self._changed: asyncio.Event | None = None
        self._gone: dict[ExecutorProcess, asyncio.Future[None]] = {}
        self._burials: set[asyncio.Task[None]] = set()

    def resize(self, slots: int) -> None:
        """From now on so many attempts may run at once; what runs already goes on."""
        count = len(self._places)
        self.slots = slots
        # Each executor can run at least one; `free` sees to the sum.
        self._shares = [max(1, slots // count + (place < slots % count)) for place in range(count)]
        for child, share in zip(self._places, self._shares, strict=True):
            if child is not None:
                child.slots = share
        self._freed.set()

    async def start(self, *, patient: bool = False) -> None:
        """Start the executors and return when each has loaded the app. Raises ConfigurationError if it does not load.

        A `patient` start says so in the log instead, and waits for a `reload`.
        """
        self._changed = asyncio.Event() if patient else None
        self._loop = asyncio.get_running_loop()
        await self._guard.start()
        ready = [self._loop.create_future() for _ in self._places]
        self._keepers = [asyncio.create_task(self._keep(place, first)) for place, first in enumerate(ready)]
        try:
            while (await asyncio.wait(ready, timeout=SLOW_START))[1]:
                logger().warning("the app is still being imported", app=self._app)
        except BaseException:
            await self.close()
            raise
        problems = [first.result() for first in ready if first.result() is not None]
        if problems and not patient:
            await self.close()
            raise ConfigurationError(problems[0])

    async def reload(self) -> bool:
        """Let new executors with the code of now take over; the old ones end what they run. False if it does not load: then the
        old ones go on. For executors whose start was patient."""
        assert self._changed is not None
        taken = 0
        for place, old in enumerate(self._places):
            if old not in self._gone:  # nobody is there since the code did not load
                continue
            problem = await self._replace(place, old)
            if problem is not None:
                if not self._closing.is_set():
                    logger().error("the changed code cannot be used, the old code goes on", reason=problem)
                return False
            taken += 1
        self._changed.set()
        self._changed = asyncio.Event()
        return taken > 0

    async def _replace(self, place: int, old: ExecutorProcess | None) -> str | None:
        """Start another executor and give it this place; None, or why it cannot be used."""
        child = self._new(place)
        problem = await self._raise(child)
        if problem is not None:
            return problem
        if old in self._gone:
            self._succeed(place, child)
        else:  # it has died meanwhile, and has a successor
            self._await_end(child)
            child.retired = True
            self._retire(child)
        return None

    def _new(self, place: int) -> ExecutorProcess:
        return ExecutorProcess(self._shares[place], self._hear, self._hear_word, self._exhausted)

    def _exhausted(self, child: ExecutorProcess, reason: str) -> None:
        """An executor asks for a successor. It keeps its place until that one is ready, and ends when its attempts have."""
        if child in self._places and not child.retired and not self._closing.is_set():
            logger().warning(
                "ended attempts left an executor too little: starting another in its place",
                pid=child.pid,
                reason=reason,
            )
            self._burials.add(renewal := asyncio.create_task(self._renew(child)))
            renewal.add_done_callback(self._burials.discard)

    async def _renew(self, child: ExecutorProcess) -> None:
        problem = await self._replace(self._places.index(child), child)
        if problem is not None and not self._closing.is_set():
            logger().error(
                "an executor that has too little left keeps its place: its successor does not start", reason=problem
            )

    def _succeed(self, place: int, child: ExecutorProcess) -> None:
        """`child` has this place from now on. Whoever had it ends when its attempts have."""
        old, self._places[place] = self._places[place], child
        gone = self._gone.pop(old) if old in self._gone else self._loop.create_future()
        self._gone[child] = gone
        self._await_end(child)
        if old is not None:
            old.retired = True
            self._retire(old)

    def _retire(self, child: ExecutorProcess) -> None:
        if not child.attempts and child in self._live:
            self._burials.add(farewell := asyncio.create_task(child.dismiss(FAREWELL)))
            farewell.add_done_callback(self._burials.discard)

    @property
    def running(self) -> int:
        """How many attempts have begun and not ended."""
        return sum(len(child.attempts) for child in self._live if child.slots) + len(self._suspects)

    @property
    def free(self) -> int:
        """How many attempts can begin right now. A suspect takes a slot like any other, though its process is another."""
        return max(0, min(sum(child.room for child in self._live) - len(self._suspects), self.slots - self.running))

    @property
    def stopping(self) -> list[int]:
        """The jobs whose attempts were asked to stop and have not yet."""
        children = {*self._live, *(suspect.child for suspect in self._suspects)}
        return sorted(key[0] for child in children for key, one in child.attempts.items() if one.stopping is not None)

    async def available(self) -> None:
        """Return when there is a free slot."""
        while self.free <= 0:
            self._freed.clear()
            await self._freed.wait()

    def begin(self, orders: Sequence[Order]) -> None:
        """Run these attempts. Those for which there is no slot (any more), or no lease, end as Released."""
        expired = self._guard.expired
        rooms = {} if expired else {child: room for child in self._live if (room := child.room) > 0}
        free = self.free
        batches: dict[ExecutorProcess, list[Order]] = {}
        for order in orders:
            child = max(rooms, key=rooms.__getitem__, default=None)
            if child is None or rooms[child] <= 0 or free <= 0:
                reason = "lease ran out" if expired else "no executor was free"
                self._report(order.job_id, order.attempt, Released(reason))
                continue
            free -= 1
            if order.suspect:
                self._isolate(order)
                continue
            rooms[child] -= 1
            key = order.job_id, order.attempt
            child.attempts[key] = Assignment(key, child)
            batches.setdefault(child, []).append(order)
        for child, batch in batches.items():
            self._hand_over(child, batch)

    def _hand_over(self, child: ExecutorProcess, orders: Sequence[Order]) -> None:
        """Start what `child.attempts` has already; the time-outs run from here."""
        for order in orders:
            attempt = child.attempts[order.job_id, order.attempt]
            timeout = order.timeout if order.timeout is not None else self._timeouts.get(order.task)
            if timeout is not None:
                attempt.deadline = self._loop.call_later(timeout, self._ask, attempt, TimedOut(after=timeout))
        for order in child.begin(orders):
            self._end(child, order.job_id, order.attempt, Failed(UNSENDABLE))

    def _isolate(self, order: Order) -> None:
        child = ExecutorProcess(0, self._hear, self._hear_word)
        attempt = Assignment((order.job_id, order.attempt), child)
        attempt.over = ended = asyncio.Event()
        child.attempts[attempt.key] = attempt
        self._suspects[attempt] = asyncio.create_task(self._alone(order, attempt, ended))

    async def _alone(self, order: Order, attempt: Assignment, ended: asyncio.Event) -> None:
        """Run one suspect in a process of its own, from that one's start to its end."""
        child = attempt.child
        problem = await self._raise(child)
        if problem is not None:
            self._end(child, *attempt.key, attempt.stopping or Released(problem))
        else:
            burial = asyncio.create_task(self._bury(child))
            if attempt.stopping is None:
                self._hand_over(child, [order])
            else:
                self._end(child, *attempt.key, attempt.stopping)
            over = asyncio.create_task(ended.wait())
            await asyncio.wait({burial, over}, return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
            if not burial.done():
                await child.dismiss(FAREWELL)
            await burial
        del self._suspects[attempt]
        self._freed.set()

    def stop(self, job_id: int, attempt: int, outcome: Outcome) -> None:
        """Stop this attempt, if it runs: it ends as `outcome` unless it ends by itself before it is asked."""
        for child in [*self._live, *(suspect.child for suspect in self._suspects)]:
            found = child.attempts.get((job_id, attempt))
            if found is not None:
                self._ask(found, outcome)

    def lease(self, until: float) -> None:
        """The guard is to kill every executor at `until` (seconds of guard.clock()); infinity switches it off."""
        self._guard.lease(until)

    def kill(self) -> None:
        """SIGKILL all executors; their attempts end as Released, unless they were being stopped."""
        for child in {*self._live, *(suspect.child for suspect in self._suspects)}:
            child.kill("the worker killed its executors")

    async def close(self) -> None:
        """End the executors and the guard. Attempts that still run are killed and end as Released."""
        self._closing.set()
        for child in list(self._starting):
            child.kill("the worker is closing")
        await asyncio.gather(*(self._farewell(child) for child in list(self._live)))
        await asyncio.gather(*self._keepers, *self._suspects.values())
        await asyncio.gather(*self._burials)
        await self._guard.close()
        self._flush()

    async def _farewell(self, child: ExecutorProcess) -> None:
        if child.attempts:
            child.kill("the worker is closing")
        else:
            await child.dismiss(FAREWELL)

    async def _keep(self, place: int, first: asyncio.Future[str | None]) -> None:
        """Keep one executor in this place; `first` gets None, or why the first one cannot be used."""
        failed_starts = 0
        while not self._closing.is_set():
            child = self._places[place] = self._new(place)
            problem = await self._raise(child)
            if not first.done():
                first.set_result(problem)
            if problem is None:
                if failed_starts and self._changed is not None:
                    logger().info("reloaded", tasks=list(self.tasks))
                failed_starts = 0
                gone = self._gone[child] = self._loop.create_future()
                self._await_end(child)
                await gone
                self.restarts += not self._closing.is_set()
            elif not self._closing.is_set() and self._changed is not None:
                failed_starts += 1
                logger().error("the app does not load: waiting for a change of its code", reason=problem)
                await either(self._changed, self._closing)
            elif not self._closing.is_set():
                delay = min(BACKOFF[1], BACKOFF[0] * 2**failed_starts)
                failed_starts += 1
                logger().error("an executor does not start", reason=problem, retry_in=delay)
                await wait_for(self._closing, delay)

    def _await_end(self, child: ExecutorProcess) -> None:
        """Bury it when it has ended. If it has its place still, that is told to who keeps it."""
        self._burials.add(burial := asyncio.create_task(self._bury(child)))

        def buried(_: object) -> None:
            self._burials.discard(burial)
            gone = self._gone.pop(child, None)
            if gone is not None and not gone.done():
                gone.set_result(None)

        burial.add_done_callback(buried)

    async def _raise(self, child: ExecutorProcess) -> str | None:
        """Start an executor; None, or why it cannot be used (it has ended)."""
        try:
            await child.spawn()
        except OSError as error:
            return f"an executor process cannot be started: {error}"
        self._guard.watch(child.pid)
        child.oom_kills = oom_kills()
        self._starting.append(child)
        if self._closing.is_set() or child.doom is not None:
            child.kill("the worker is closing")
        named = self._app, *self._limits, self._worker_id, *self._log
        answer = await child.load(Setup(*named, self._outward, self._grace / 2, self._transactions, self._max_log))
        self._starting.remove(child)
        if isinstance(answer, Ready):
            self.tasks, self._timeouts = tuple(answer.tasks), answer.timeouts
            self._live.append(child)
            self._freed.set()
            return None
        child.kill("it is of no use")
        status = await child.gone()
        self._guard.forget(child.pid)
        if isinstance(answer, Unusable):
            return answer.reason
        return f"app {self._app!r}: its executor process {fate(status)} while the app was being imported"

    async def _bury(self, child: ExecutorProcess) -> None:
        """Wait for the executor's end, and end the attempts that it still had."""
        status = await child.gone()
        guarded = self._guard.killed(child.pid)
        self._guard.forget(child.pid)
        self._live.remove(child)
        outcome = verdict_on(child, status, guarded, oom_kills() - child.oom_kills)
        if not self._closing.is_set() and (child.slots or child.attempts) and not child.retired:
            logger().warning("an executor ended", pid=child.pid, attempts=len(child.attempts), why=text_of(outcome))
        for key, attempt in list(child.attempts.items()):
            own = attempt.stopping if isinstance(outcome, Released) else None
            self._end(child, *key, own or outcome)

    def _ask(self, attempt: Assignment, outcome: Outcome) -> None:
        """Ask an attempt to stop; the first to ask decides the outcome."""
        if attempt.stopping is None:
            attempt.stopping = outcome
            if attempt.child in self._live:  # a suspect's process may only be starting
                attempt.child.halt(attempt.key)
            attempt.limit = self._loop.call_later(self._grace, self._insist, attempt)

    def _insist(self, attempt: Assignment) -> None:
        job_id, number = attempt.key
        logger().warning("a task does not stop, killing its executor", job=job_id, attempt=number)
        attempt.child.kill(f"attempt {number} of job {job_id} did not stop, and its executor had to be killed")

    def _hear(self, child: ExecutorProcess, ends: list[End]) -> None:
        for end in ends:
            attempt = child.attempts.get((end.job_id, end.attempt))
            if attempt is not None:
                self._end(child, end.job_id, end.attempt, outcome_of(end, attempt.stopping), end.said)

    def _hear_word(self, child: ExecutorProcess, word: TaskMessage) -> None:
        if (word.job_id, word.attempt) in child.attempts:
            self._on_word(word, child.answer)

    def _end(
        self, child: ExecutorProcess, job_id: int, number: int, outcome: Outcome, said: Chunk | None = None
    ) -> None:
        attempt = child.attempts.pop((job_id, number))
        if attempt.over is not None:
            attempt.over.set()
        for timer in (attempt.deadline, attempt.limit):
            if timer is not None:
                timer.cancel()
        if child.retired:
            self._retire(child)
        self._report(job_id, number, outcome, said)

    def _report(self, job_id: int, number: int, outcome: Outcome, said: Chunk | None = None) -> None:
        self._ended.append((job_id, number, outcome, said))
        if len(self._ended) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        ended, self._ended = self._ended, []
        if ended:
            self._freed.set()
            self._on_end(ended)
