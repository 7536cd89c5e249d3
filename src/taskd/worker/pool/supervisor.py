"""Keeps one executor process in each place of the pool: starts, replaces and ends them, and keeps the guard informed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from taskd.domain.outcome import Crashed, Released
from taskd.runtime.log import logger
from taskd.runtime.waiting import either, wait_for
from taskd.worker.pool.exit_status import count_oom_kills, describe_exit, outcome_of_exit, reason_of
from taskd.worker.pool.guard_client import GuardClient
from taskd.worker.pool.process import ExecutorProcess
from taskd.worker.pool.protocol import Ready, Setup, Unusable

#: Seconds before a next try when executors keep dying at their start: doubled each time, up to the second figure.
BACKOFF = (0.5, 30.0)
#: Seconds after which a start that is not done is worth a line in the log.
SLOW_START = 10.0
#: Seconds that idle executors may take to exit in good order.
EXIT_PATIENCE = 2.0
CLOSING = "the worker is closing"


class ProcessSupervisor:
    """The processes of a pool.

    Each place has one process. A process that ends is replaced. A process that is to be replaced keeps its place until its
    successor is ready; then it is retired: it gets no more attempts, and exits when it has none. A process may also have no
    place (a suspect's): it is launched and reaped here, and not replaced.
    """

    def __init__(
        self,
        setup: Setup,
        places: int,
        make: Callable[[int], ExecutorProcess],
        *,
        on_exit: Callable[[ExecutorProcess, Crashed | Released], None],
        on_ready: Callable[[], None],
    ) -> None:
        self.restarts = 0
        self.tasks: tuple[str, ...] = ()
        self.timeouts: dict[str, float] = {}
        self.guard = GuardClient()
        #: All processes that have loaded the app and not ended, also retired ones and those of suspects.
        self.live: list[ExecutorProcess] = []
        self._setup = setup
        self._make = make
        self._on_exit = on_exit
        self._on_ready = on_ready
        self._places: list[ExecutorProcess | None] = [None] * places
        self._shares = [1] * places
        self._starting: list[ExecutorProcess] = []
        self._keepers: list[asyncio.Task[None]] = []
        #: By the process in a place: done when that process has ended and the place needs another.
        self._vacated: dict[ExecutorProcess, asyncio.Future[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        #: With `patient` starts: set when a place whose code does not load is worth another try.
        self._changed: asyncio.Event | None = None

    def share(self, slots: int) -> None:
        """Spread so many slots over the places, from now on. Each process can run at least one attempt."""
        count = len(self._places)
        self._shares = [max(1, slots // count + (place < slots % count)) for place in range(count)]
        for process, share in zip(self._places, self._shares, strict=True):
            if process is not None:
                process.slots = share

    async def start(self, *, patient: bool) -> str | None:
        """Start all processes. Return when each has loaded the app: None, or why one has not.

        With `patient`, a process whose app does not load waits for a `reload`; that is logged. Raises OSError.
        """
        self._changed = asyncio.Event() if patient else None
        self._loop = asyncio.get_running_loop()
        await self.guard.start()
        ready = [self._loop.create_future() for _ in self._places]
        self._keepers = [asyncio.create_task(self._keep(place, first)) for place, first in enumerate(ready)]
        while (await asyncio.wait(ready, timeout=SLOW_START))[1]:
            logger().warning("the app is still being imported", app=self._setup.app)
        return next((first.result() for first in ready if first.result() is not None), None)

    async def reload(self) -> bool:
        """Replace all processes by ones with the code of now. False if that does not load: the old ones then go on.

        Only after a `patient` start.
        """
        assert self._changed is not None
        replaced = 0
        for place, old in enumerate(self._places):
            if old not in self._vacated:  # no process is there since the code did not load
                continue
            problem = await self._replace(place, old)
            if problem is not None:
                if not self._closing.is_set():
                    logger().error("the changed code cannot be used, the old code goes on", reason=problem)
                return False
            replaced += 1
        self._changed.set()
        self._changed = asyncio.Event()
        return replaced > 0

    async def launch(self, process: ExecutorProcess) -> str | None:
        """Start a process and let it load the app: None, or why it cannot be used (it has ended then)."""
        try:
            await process.spawn()
        except OSError as error:
            return f"an executor process cannot be started: {error}"
        self.guard.watch(process.pid)
        process.oom_kills = count_oom_kills()
        self._starting.append(process)
        if self._closing.is_set() or process.kill_reason is not None:
            process.kill(CLOSING)
        answer = await process.load(self._setup)
        self._starting.remove(process)
        if isinstance(answer, Ready):
            self.tasks, self.timeouts = tuple(answer.tasks), answer.timeouts
            self.live.append(process)
            self._on_ready()
            return None
        process.kill("it is of no use")
        status = await process.wait_ended()
        self.guard.forget(process.pid)
        if isinstance(answer, Unusable):
            return answer.reason
        return f"app {self._setup.app!r}: its executor process {describe_exit(status)} while the app was being imported"

    async def reap(self, process: ExecutorProcess) -> None:
        """Wait for the end of a process that was launched, and report it."""
        status = await process.wait_ended()
        guarded = self.guard.killed(process.pid)
        self.guard.forget(process.pid)
        self.live.remove(process)
        outcome = outcome_of_exit(process, status, guarded=guarded, oom_kills=count_oom_kills() - process.oom_kills)
        if not self._closing.is_set() and (process.slots or process.attempts) and not process.retired:
            logger().warning(
                "an executor ended", pid=process.pid, attempts=len(process.attempts), why=reason_of(outcome)
            )
        self._on_exit(process, outcome)

    def replace_exhausted(self, process: ExecutorProcess, reason: str) -> None:
        """Give a process that asks for it a successor. The process keeps its place until that one is ready."""
        if process in self._places and not process.retired and not self._closing.is_set():
            logger().warning(
                "ended attempts left an executor too little: starting another in its place",
                pid=process.pid,
                reason=reason,
            )
            self._run(self._replace_exhausted(process))

    def exit_if_idle(self, process: ExecutorProcess) -> None:
        """Let a retired process exit once it has no attempts."""
        if not process.attempts and process in self.live:
            self._run(process.shut_down(EXIT_PATIENCE))

    async def end_processes(self) -> None:
        """End all processes, and start no more. Attempts that still run are killed."""
        self._closing.set()
        for process in list(self._starting):
            process.kill(CLOSING)
        await asyncio.gather(*(self._end(process) for process in list(self.live)))

    async def close(self) -> None:
        """Wait until all processes have ended, and end the guard. `end_processes` comes first."""
        await asyncio.gather(*self._keepers)
        await asyncio.gather(*self._background)
        await self.guard.close()

    @staticmethod
    async def _end(process: ExecutorProcess) -> None:
        if process.attempts:
            process.kill(CLOSING)
        else:
            await process.shut_down(EXIT_PATIENCE)

    async def _keep(self, place: int, first: asyncio.Future[str | None]) -> None:
        """Keep a process in this place. `first` gets the result of the first launch."""
        failed_starts = 0
        while not self._closing.is_set():
            process = self._places[place] = self._make(self._shares[place])
            problem = await self.launch(process)
            if not first.done():
                first.set_result(problem)
            if problem is None:
                if failed_starts and self._changed is not None:
                    logger().info("reloaded", tasks=list(self.tasks))
                failed_starts = 0
                vacated = self._vacated[process] = self._loop.create_future()
                self._reap_later(process)
                await vacated
                self.restarts += not self._closing.is_set()
            elif not self._closing.is_set():
                failed_starts += 1
                await self._wait_to_retry(problem, failed_starts)

    async def _wait_to_retry(self, problem: str, failed_starts: int) -> None:
        if self._changed is not None:
            logger().error("the app does not load: waiting for a change of its code", reason=problem)
            await either(self._changed, self._closing)
            return
        delay = min(BACKOFF[1], BACKOFF[0] * 2 ** (failed_starts - 1))
        logger().error("an executor does not start", reason=problem, retry_in=delay)
        await wait_for(self._closing, delay)

    async def _replace(self, place: int, old: ExecutorProcess | None) -> str | None:
        """Launch another process and give it this place: None, or why it cannot be used."""
        process = self._make(self._shares[place])
        problem = await self.launch(process)
        if problem is not None:
            return problem
        if old in self._vacated:
            self._install(place, process)
        else:  # the old one has ended meanwhile, and has a successor
            self._reap_later(process)
            process.retired = True
            self.exit_if_idle(process)
        return None

    async def _replace_exhausted(self, process: ExecutorProcess) -> None:
        problem = await self._replace(self._places.index(process), process)
        if problem is not None and not self._closing.is_set():
            logger().error(
                "an executor that has too little left keeps its place: its successor does not start", reason=problem
            )

    def _install(self, place: int, process: ExecutorProcess) -> None:
        """Give the place to `process`, and retire the process before it."""
        old, self._places[place] = self._places[place], process
        vacated = self._vacated.pop(old) if old in self._vacated else self._loop.create_future()
        self._vacated[process] = vacated
        self._reap_later(process)
        if old is not None:
            old.retired = True
            self.exit_if_idle(old)

    def _reap_later(self, process: ExecutorProcess) -> None:
        """Reap it when it has ended. If it has its place still, the place is then vacated."""

        def reaped(_: object) -> None:
            vacated = self._vacated.pop(process, None)
            if vacated is not None and not vacated.done():
                vacated.set_result(None)

        self._run(self.reap(process)).add_done_callback(reaped)

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
