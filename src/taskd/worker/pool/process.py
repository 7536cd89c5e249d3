"""The worker's side of one executor: its process, its socket, and the attempts that it runs."""

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

from taskd.domain.outcome import Outcome
from taskd.domain.output import Chunk
from taskd.runtime import meters
from taskd.runtime.discards import shown
from taskd.runtime.log import logger
from taskd.seams import Order
from taskd.worker.pool import crash_buffer
from taskd.worker.pool.decoding import Limits, received, storable
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

#: Seconds to wait for the socket's end after the process's: something that it forked may still hold the socket.
LINGER = 1.0
#: Bytes of the longest error text that is an executor's own, whatever the setting allows to tasks.
OWN_TEXTS = 1000


class Assignment:
    """One attempt that an executor was given and whose end was not reported yet."""

    __slots__ = ("child", "deadline", "heard", "key", "limit", "over", "stopping")

    def __init__(self, key: tuple[int, int], child: ExecutorProcess) -> None:
        self.key = key
        self.child = child
        self.stopping: Outcome | None = None
        self.deadline: asyncio.TimerHandle | None = None
        self.limit: asyncio.TimerHandle | None = None
        #: Set at its end, for whoever waits for that one: a suspect's process does.
        self.over: asyncio.Event | None = None
        #: The number of the last line that it has said, as far as that was told.
        self.heard = 0


class ExecutorProcess(asyncio.Protocol):
    """One executor process, from exec to its certain end."""

    def __init__(
        self,
        slots: int,
        on_ends: Callable[[ExecutorProcess, list[End]], None],
        on_word: Callable[[ExecutorProcess, TaskMessage], None],
        on_exhausted: Callable[[ExecutorProcess, str], None] = lambda child, reason: None,
    ) -> None:
        self.slots = slots
        self.attempts: dict[tuple[int, int], Assignment] = {}
        #: Why the worker killed it, if it did.
        self.doom: str | None = None
        self.hung_up = False
        #: True once another one has its place: it ends what it runs, and then itself.
        self.retired = False
        #: How many processes the kernel had killed for lack of memory when it began.
        self.oom_kills = 0
        #: True if it was killed because it had hung up.
        self.unheard = False
        self._on_ends = on_ends
        self._on_word = on_word
        self._on_exhausted = on_exhausted
        self._frames = FrameSplitter()
        self._limits = Limits()
        #: True once it has sent what no executor sends.
        self._broken = False
        self._last_words = -1
        self._lines_lost = 0
        self._transport: asyncio.Transport | None = None
        self._process: asyncio.subprocess.Process | None = None
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Ready | Unusable] = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def room(self) -> int:
        """How many more attempts it can be given."""
        return 0 if self.doom is not None or self.hung_up or self.retired else max(0, self.slots - len(self.attempts))

    async def spawn(self) -> None:
        """Start the process. Raises OSError."""
        self._last_words = crash_buffer.create()
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            self._forget_last_words()
            raise
        arguments = str(theirs.fileno()), str(os.getpid()), str(self._last_words)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "taskd.executor.main", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=2,
                pass_fds=(theirs.fileno(), self._last_words),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            self._forget_last_words()
            raise
        finally:
            theirs.close()
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)

    async def load(self, setup: Setup) -> Ready | Unusable | None:
        """Let it load the app; None if it died of that."""
        self._limits = Limits(setup.max_result_bytes, max(OWN_TEXTS, setup.max_error_bytes))
        self._send(encode(setup))
        await asyncio.wait((self._answer, self._lost), return_when=asyncio.FIRST_COMPLETED)
        return self._answer.result() if self._answer.done() else None

    def begin(self, orders: Sequence[Order]) -> list[Order]:
        """Give it these attempts; those that cannot be put into a message come back."""
        try:
            self._send(encode(Begin(list(orders))))
        except OverflowError:
            if len(orders) == 1:
                return list(orders)
            return [order for one in orders for order in self.begin([one])]
        return []

    def halt(self, key: tuple[int, int]) -> None:
        """Ask it to stop one attempt."""
        self._send(encode(Cancel(*key)))

    def answer(self, answer: Answer) -> None:
        """Tell an attempt what it has asked for."""
        self._send(encode(answer))

    def kill(self, reason: str) -> None:
        """SIGKILL it, with whatever its tasks have started. The first reason stands."""
        if self.doom is None:
            self.doom = reason
        self._signal()

    async def dismiss(self, patience: float) -> None:
        """Let it exit in good order within `patience` seconds, else kill it."""
        self._send(encode(Shutdown()))
        assert self._process is not None
        try:
            await asyncio.wait_for(self._process.wait(), patience)
        except TimeoutError:
            logger().warning("an executor did not exit when it was told to, killing it", pid=self.pid, seconds=patience)
            self.kill("the worker is closing")

    async def gone(self) -> int:
        """Wait until the process has certainly ended and all that it said was heard; its exit status (-n for signal n)."""
        assert self._process is not None
        status = await self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # what its tasks have started is user code as well
        await asyncio.wait((self._lost,), timeout=LINGER)
        if self._transport is not None:
            self._transport.abort()
        try:
            self._pass_on(storable(self._untold()))
        except Exception as error:  # noqa: BLE001 - a task may have done anything to that memory; its end comes first
            logger().warning("the last words of an executor cannot be read", pid=self.pid, error=str(error))
        self._forget_last_words()
        return status

    def _untold(self) -> list[Chunk]:
        """What its attempts have said and it could not tell any more."""
        if not self.attempts or self._last_words < 0:
            return []
        words = [
            w for w in crash_buffer.read(self._last_words) if (a := self.attempts.get(w[:2])) and w.number > a.heard
        ]
        chunks = []
        for _, run in itertools.groupby(
            enumerate(words), key=lambda one: (*one[1][:2], one[1].number - one[0], one[1].tail)
        ):
            said = [word for _, word in run]
            body = msgspec.json.encode([word.line for word in said])
            chunks.append(Chunk(*said[0][:3], len(said), said[0].tail, body))
        return chunks

    def _pass_on(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            attempt = self.attempts.get((chunk.job_id, chunk.attempt))
            if attempt is not None:
                attempt.heard = max(attempt.heard, chunk.last)  # its threads number their lines, and may be overtaken
                self._on_word(self, chunk)

    def _forget_last_words(self) -> None:
        if self._last_words >= 0:
            os.close(self._last_words)
            self._last_words = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            for frame in self._frames.feed(data):
                self._take(received(frame, self._limits))
        except BrokenStream as error:
            # Its tasks can reach the connection too; what they wrote into it makes all that follows unreadable.
            logger().error(
                "what an executor says cannot be understood: killing it", pid=self.pid, error=shown(error, 300)
            )
            self._hang_up()

    def _take(self, message: ToWorker) -> None:
        if isinstance(message, Ends):
            meters.LINES_LOST.elsewhere += max(0, message.lines_lost - self._lines_lost)
            self._lines_lost = max(self._lines_lost, message.lines_lost)
            self._on_ends(self, message.ends)
        elif isinstance(message, NoteMessage | LockRequest | LockRelease):
            self._on_word(self, message)
        elif isinstance(message, LogMessage):
            self._pass_on(message.chunks)
        elif not self._answer.done():
            self._answer.set_result(message)
        elif isinstance(message, Unusable):  # it was ready before
            self._on_exhausted(self, message.reason)

    def connection_lost(self, error: Exception | None) -> None:
        self.hung_up = True
        if not self._lost.done():
            self._lost.set_result(None)
        # An executor that dies hangs up too; one that only hung up must not run on unheard.
        asyncio.get_running_loop().call_later(LINGER, self._kill_unheard)

    def _signal(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _hang_up(self) -> None:
        """Hear nothing more of it, and kill it."""
        self._frames = FrameSplitter()
        self._broken = True
        if self._transport is not None:
            self._transport.abort()
        self._kill_unheard()

    def _kill_unheard(self) -> None:
        if self.doom is None:
            self.unheard = True
        self._signal()

    def _send(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)
