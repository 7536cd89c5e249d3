"""The worker's side of the guard: keeps it alive and tells it of the executors and the lease."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterable

from taskd.runtime.log import logger
from taskd.worker.pool import guard


class GuardClient:
    """A guard process and what it was told; a guard that dies is replaced and told again."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._pipe = -1
        self._reports = -1
        self._until = float("inf")
        self._executors: dict[int, int] = {}
        self._killed: set[int] = set()
        #: The beginning of a report that has not arrived as a whole.
        self._report = b""

    @property
    def expired(self) -> bool:
        """True from the lease's end on."""
        return guard.clock() >= self._until

    async def start(self) -> None:
        """Start the guard. Raises OSError."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep())

    def lease(self, until: float) -> None:
        """The executors are to be killed at `until` (seconds of guard.clock()); infinity switches that off."""
        self._until = until
        self._write(b"D" + guard.DEADLINE.pack(until))

    def watch(self, pid: int) -> None:
        """This executor is alive."""
        self._executors[pid] = guard.start_time(pid) or 0
        self._write(self._roll())

    def forget(self, pid: int) -> None:
        """This executor is gone."""
        if self._executors.pop(pid, None) is not None:
            self._write(self._roll())

    def killed(self, pid: int) -> bool:
        """True (once) if the guard killed this executor because the lease had run out."""
        self._hear()
        found = pid in self._killed
        self._killed.discard(pid)
        return found

    async def close(self) -> None:
        """End the guard, which kills the executors that are left."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._hang_up()
        if self._process is not None:
            await self._process.wait()

    async def _spawn(self) -> None:
        theirs_in, self._pipe = os.pipe()
        self._reports, theirs_out = os.pipe()
        try:
            os.set_blocking(self._pipe, False)
            os.set_blocking(self._reports, False)
            arguments = (sys.executable, "-I", "-S", guard.__file__)
            self._process = await asyncio.create_subprocess_exec(
                *arguments, stdin=theirs_in, stdout=theirs_out, start_new_session=True
            )
        except BaseException:
            self._hang_up()
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._write(self._roll() + b"D" + guard.DEADLINE.pack(self._until))

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            status = await self._process.wait()
            logger().warning("the lease guard ended, starting another", status=status)
            self._hear()
            self._hang_up()
            try:
                await self._spawn()
            except OSError as error:
                logger().error("the lease guard does not start", error=str(error))
                await asyncio.sleep(1)

    def _roll(self) -> bytes:
        return b"E" + guard.COUNT.pack(len(self._executors)) + _pairs(self._executors.items())

    def _write(self, record: bytes) -> None:
        """Tell the guard. One that died is told everything when it is replaced; one that reads nothing is killed."""
        try:
            written = os.write(self._pipe, record) if self._pipe >= 0 else len(record)
        except BrokenPipeError:
            return
        except BlockingIOError:
            written = 0
        if written < len(record) and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._reports >= 0 and (data := os.read(self._reports, guard.REPORT.size * 512)):
                data = self._report + data
                whole = len(data) // guard.REPORT.size * guard.REPORT.size
                self._report = data[whole:]
                self._killed |= {pid for (pid,) in guard.REPORT.iter_unpack(data[:whole])} & self._executors.keys()

    def _hang_up(self) -> None:
        for fd in (self._pipe, self._reports):
            if fd >= 0:
                os.close(fd)
        self._pipe = self._reports = -1
        self._report = b""


def _pairs(items: Iterable[tuple[int, int]]) -> bytes:
    return b"".join(guard.PROCESS.pack(pid, start) for pid, start in items)
