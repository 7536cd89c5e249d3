"""The worker's side of the guard: keeps it alive, and sends it the executors and the lease."""

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
    """A guard process and its state. A guard that dies is replaced, and receives the whole state again."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._pipe = -1
        self._reports = -1
        self._until = float("inf")
        self._executors: dict[int, int] = {}
        self._killed: set[int] = set()
        #: The beginning of a report that has not arrived completely.
        self._report = b""

    @property
    def expired(self) -> bool:
        """True from the lease's end on."""
        return guard.clock() >= self._until

    async def start(self) -> None:
        """Start the guard. Raises OSError."""
        await self._spawn()
        self._restarting = asyncio.create_task(self._restart_forever())

    def lease(self, until: float) -> None:
        """Let the guard kill the executors at `until` (seconds of guard.clock()); infinity switches that off."""
        self._until = until
        self._write(b"D" + guard.DEADLINE.pack(until))

    def watch(self, pid: int) -> None:
        """Add an executor that is alive."""
        self._executors[pid] = guard.start_time(pid) or 0
        self._write(self._executor_list())

    def forget(self, pid: int) -> None:
        """Remove an executor that has ended."""
        if self._executors.pop(pid, None) is not None:
            self._write(self._executor_list())

    def killed(self, pid: int) -> bool:
        """Return True (once) if the guard killed this executor because the lease had run out."""
        self._read_reports()
        killed = pid in self._killed
        self._killed.discard(pid)
        return killed

    async def close(self) -> None:
        """End the guard, which kills the remaining executors."""
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        self._close_pipes()
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
            self._close_pipes()
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._write(self._executor_list() + b"D" + guard.DEADLINE.pack(self._until))

    async def _restart_forever(self) -> None:
        while True:
            assert self._process is not None
            status = await self._process.wait()
            logger().warning("the lease guard ended, starting another", status=status)
            self._read_reports()
            self._close_pipes()
            try:
                await self._spawn()
            except OSError as error:
                logger().error("the lease guard does not start", error=str(error))
                await asyncio.sleep(1)

    def _executor_list(self) -> bytes:
        return b"E" + guard.COUNT.pack(len(self._executors)) + _pairs(self._executors.items())

    def _write(self, record: bytes) -> None:
        """Send a record. A guard that died gets the whole state when it is replaced; one that reads nothing is killed."""
        try:
            written = os.write(self._pipe, record) if self._pipe >= 0 else len(record)
        except BrokenPipeError:
            return
        except BlockingIOError:
            written = 0
        if written < len(record) and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    def _read_reports(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._reports >= 0 and (data := os.read(self._reports, guard.REPORT.size * 512)):
                data = self._report + data
                whole = len(data) // guard.REPORT.size * guard.REPORT.size
                self._report = data[whole:]
                self._killed |= {pid for (pid,) in guard.REPORT.iter_unpack(data[:whole])} & self._executors.keys()

    def _close_pipes(self) -> None:
        for fd in (self._pipe, self._reports):
            if fd >= 0:
                os.close(fd)
        self._pipe = self._reports = -1
        self._report = b""


def _pairs(items: Iterable[tuple[int, int]]) -> bytes:
    return b"".join(guard.PROCESS.pack(pid, start) for pid, start in items)
