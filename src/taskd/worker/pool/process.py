"""One executor process as the worker sees it: the process, its socket, and the attempts that it runs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from taskd.domain.job import AttemptId
from taskd.domain.outcome import Outcome
from taskd.domain.output import Chunk
from taskd.runtime import meters
from taskd.runtime.discards import shown
from taskd.runtime.log import logger
from taskd.seams import Order
from taskd.worker.pool import crash_buffer
from taskd.worker.pool.decoding import Limits, decode, storable
from taskd.worker.pool.protocol import (
    Answer,
    Begin,
    BrokenStream,
    Cancel,
    End,
    Ends,
    FrameSplitter,
    LockRelease,
    LockRequest,
    LogMessage,
    NoteMessage,
    Ready,
    Setup,
    Shutdown,
    TaskMessage,
    ToWorker,
    Unusable,
    encode,
)

#: Seconds to wait for the socket's end after the process's: a process that a task has forked may still hold the socket.
LINGER = 1.0
#: Bytes of the longest error text that an executor makes itself, whatever the setting allows to tasks.
OWN_TEXTS = 1000


class Assignment:
    """An attempt that was given to an executor and whose end was not reported yet."""

    __slots__ = ("deadline", "ended", "id", "last_line", "limit", "process", "stopping")

    def __init__(self, attempt_id: AttemptId, process: ExecutorProcess) -> None:
        self.id = attempt_id
        self.process = process
        #: The outcome that it was asked to stop with, if it was.
        self.stopping: Outcome | None = None
        #: Asks it to stop at its time-out.
        self.deadline: asyncio.TimerHandle | None = None
        #: Kills its executor if it does not stop.
        self.limit: asyncio.TimerHandle | None = None
        #: Set at its end. Only an attempt in a process of its own has this.
        self.ended: asyncio.Event | None = None
        #: The highest number of a line of output that arrived.
        self.last_line = 0


class ExecutorProcess(asyncio.Protocol):
    """One executor process, from exec to its certain end."""

    def __init__(
        self,
        slots: int,
        on_ends: Callable[[ExecutorProcess, list[End]], None],
        on_message: Callable[[ExecutorProcess, TaskMessage], None],
        on_exhausted: Callable[[ExecutorProcess, str], None] = lambda process, reason: None,
    ) -> None:
        self.slots = slots
        self.attempts: dict[AttemptId, Assignment] = {}
        #: The reason for which the worker killed it, if it did.
        self.kill_reason: str | None = None
        self.disconnected = False
        #: True once another process has its place: it ends its attempts, and then exits.
        self.retired = False
        #: How many processes the kernel had killed for lack of memory when this one began.
        self.oom_kills = 0
        #: True if it was killed because its connection had ended.
        self.killed_disconnected = False
        self._on_ends = on_ends
        self._on_message = on_message
        self._on_exhausted = on_exhausted
        self._frames = FrameSplitter()
        self._limits = Limits()
        #: True once it has sent bytes that are no message of an executor.
        self._broken = False
        self._crash_buffer = -1
        self._lines_lost = 0
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None
        loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[Ready | Unusable] = loop.create_future()
        self._connection_lost: asyncio.Future[None] = loop.create_future()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def free(self) -> int:
        """The number of attempts that it can be given now."""
        if self.kill_reason is not None or self.disconnected or self.retired:
            return 0
        return max(0, self.slots - len(self.attempts))

    async def spawn(self) -> None:
        """Start the process. Raises OSError."""
        self._crash_buffer = crash_buffer.create()
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            self._close_crash_buffer()
            raise
        arguments = str(theirs.fileno()), str(os.getpid()), str(self._crash_buffer)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "taskd.executor.main", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,
                pass_fds=(theirs.fileno(), self._crash_buffer),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            self._close_crash_buffer()
            raise
        finally:
            theirs.close()
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)

    async def load(self, setup: Setup) -> Ready | Unusable | None:
        """Let it load the app, and return its answer; None if it ended instead."""
        self._limits = Limits(setup.max_result_bytes, max(OWN_TEXTS, setup.max_error_bytes))
        self._send(encode(setup))
        await asyncio.wait((self._loaded, self._connection_lost), return_when=asyncio.FIRST_COMPLETED)
        return self._loaded.result() if self._loaded.done() else None

    def begin(self, orders: Sequence[Order]) -> list[Order]:
        """Give it these attempts. Return those that do not fit into a message."""
        try:
            self._send(encode(Begin(list(orders))))
        except OverflowError:
            if len(orders) == 1:
                return list(orders)
            return [unsent for order in orders for unsent in self.begin([order])]
        return []

    def cancel(self, attempt_id: AttemptId) -> None:
        """Ask it to stop one attempt."""
        self._send(encode(Cancel(*attempt_id)))

    def answer(self, answer: Answer) -> None:
        """Answer a request of an attempt."""
        self._send(encode(answer))

    def kill(self, reason: str) -> None:
        """SIGKILL it, with all that its tasks have started. The first reason stands."""
        if self.kill_reason is None:
            self.kill_reason = reason
        self._kill_group()

    async def shut_down(self, patience: float) -> None:
        """Let it exit in good order within `patience` seconds, else kill it."""
        self._send(encode(Shutdown()))
        assert self._process is not None
        try:
            await asyncio.wait_for(self._process.wait(), patience)
        except TimeoutError:
            logger().warning(
                "an executor did not exit when it was asked to, killing it", pid=self.pid, seconds=patience
            )
            self.kill("the worker is closing")

    async def wait_ended(self) -> int:
        """Wait until the process has ended and all its messages were read. Return its exit status (-n for signal n)."""
        assert self._process is not None
        status = await self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # processes that its tasks have started run user code as well
        await asyncio.wait((self._connection_lost,), timeout=LINGER)
        if self._transport is not None:
            self._transport.abort()
        try:
            self._pass_on(storable(self._unsent_output()))
        except Exception as error:  # noqa: BLE001 - a task may have done anything to that memory; its end comes first
            logger().warning("the last output of an executor cannot be read", pid=self.pid, error=str(error))
        self._close_crash_buffer()
        return status

    def _unsent_output(self) -> list[Chunk]:
        """Return the lines of its attempts that it had not sent, in chunks of consecutive numbers."""
        if not self.attempts or self._crash_buffer < 0:
            return []
        entries = [
            entry
            for entry in crash_buffer.read(self._crash_buffer)
            if (attempt := self.attempts.get(entry.attempt_id)) and entry.number > attempt.last_line
        ]
        chunks = []
        for _, run in itertools.groupby(
            enumerate(entries), key=lambda pair: (pair[1].attempt_id, pair[1].number - pair[0], pair[1].tail)
        ):
            lines = [entry for _, entry in run]
            first = lines[0]
            body = msgspec.json.encode([entry.line for entry in lines])
            chunks.append(Chunk(*first.attempt_id, first.number, len(lines), first.tail, body))
        return chunks

    def _pass_on(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            attempt = self.attempts.get(chunk.attempt_id)
            if attempt is not None:
                # A thread may send its line after a later one of another thread, so the highest number counts.
                attempt.last_line = max(attempt.last_line, chunk.last)
                self._on_message(self, chunk)

    def _close_crash_buffer(self) -> None:
        if self._crash_buffer >= 0:
            os.close(self._crash_buffer)
            self._crash_buffer = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            for frame in self._frames.feed(data):
                self._handle(decode(frame, self._limits))
        except BrokenStream as error:
            # Its tasks can reach the connection too; bytes that they wrote make all that follows unreadable.
            logger().error(
                "the messages of an executor cannot be read: killing it", pid=self.pid, error=shown(error, 300)
            )
            self._abort()

    def _handle(self, message: ToWorker) -> None:
        if isinstance(message, Ends):
            meters.LINES_LOST.elsewhere += max(0, message.lines_lost - self._lines_lost)
            self._lines_lost = max(self._lines_lost, message.lines_lost)
            self._on_ends(self, message.ends)
        elif isinstance(message, NoteMessage | LockRequest | LockRelease):
            self._on_message(self, message)
        elif isinstance(message, LogMessage):
            self._pass_on(message.chunks)
        elif not self._loaded.done():
            self._loaded.set_result(message)
        elif isinstance(message, Unusable):  # it was ready before
            self._on_exhausted(self, message.reason)

    def connection_lost(self, error: Exception | None) -> None:
        self.disconnected = True
        if not self._connection_lost.done():
            self._connection_lost.set_result(None)
        # A process that ends closes its connection too. One that only closed the connection must not run on.
        asyncio.get_running_loop().call_later(LINGER, self._kill_disconnected)

    def _abort(self) -> None:
        """Read nothing more of it, and kill it."""
        self._frames = FrameSplitter()
        self._broken = True
        if self._transport is not None:
            self._transport.abort()
        self._kill_disconnected()

    def _kill_disconnected(self) -> None:
        if self.kill_reason is None:
            self.killed_disconnected = True
        self._kill_group()

    def _kill_group(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _send(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)
