"""The main program of an executor: a child of the worker, in which the user's code runs and may do its worst.

The worker starts it by exec with one end of a socket pair. It loads the app, runs attempts, and never outlives its worker.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Literal, NoReturn, cast

import msgspec

from taskd.domain.output import Chunk
from taskd.executor import capture, loading, spawning, task_scope
from taskd.executor.capture import Capture
from taskd.executor.loop import Loop
from taskd.executor.redirection import Streams
from taskd.executor.results import ResultEncoder
from taskd.executor.runner import Runner
from taskd.runtime import forks, stdio
from taskd.runtime.log import configure, logger
from taskd.runtime.secrets import learn_from
from taskd.seams import TaskRegistry
from taskd.settings import LogSettings
from taskd.worker.pool.crash_buffer import CrashBuffer
from taskd.worker.pool.protocol import (
    Answer,
    Begin,
    BrokenStream,
    Cancel,
    End,
    EndKind,
    Ends,
    FrameSplitter,
    LinkMessage,
    LogMessage,
    Ready,
    Setup,
    Shutdown,
    ToExecutor,
    TooLong,
    Unusable,
    encode,
)

PR_SET_PDEATHSIG = 1
#: Seconds that a task which prints waits for the reader of the log, once for each time that this one stalls.
PRINT_PATIENCE = 1.0
#: How much sooner than its worker the kernel should kill an executor when memory runs out.
OOM_MARGIN = 500


class WorkerConnection(asyncio.Protocol):
    """The executor's end of the socket pair."""

    def __init__(self, crash_buffer: int) -> None:
        self._crash_buffer = crash_buffer
        self._capture: Capture | None = None
        self._frames = FrameSplitter()
        self._decoder = msgspec.msgpack.Decoder(ToExecutor)
        self._transport: asyncio.WriteTransport | None = None
        self._runner: Runner | None = None
        self._tasks: TaskRegistry | None = None
        self._loading: asyncio.Task[None] | None = None
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._handle(data)
        except (BrokenStream, msgspec.MsgspecError) as error:
            logger().error("the worker's messages cannot be read, ending this executor", reason=str(error))
            _die()

    def _handle(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            match self._decoder.decode(frame):
                case Begin(orders):
                    assert self._runner is not None
                    self._runner.begin(orders)
                case Cancel() as cancel:
                    assert self._runner is not None
                    self._runner.stop(cancel.attempt_id)
                case Answer() as answer:
                    assert self._runner is not None
                    self._runner.answer(answer)
                case Setup() as setup:
                    self._loading = asyncio.get_running_loop().create_task(self._load(setup))
                case Shutdown():
                    self.over.set()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.is_set():
            _die()

    async def _load(self, setup: Setup) -> None:
        level = cast(Literal["DEBUG", "INFO", "WARNING", "ERROR"], setup.log_level)
        style = cast(Literal["JSON", "TEXT", ""], setup.log_format)
        configure(LogSettings(level=level, format=style), tap=capture.tap, role="executor", worker=setup.worker_id)
        try:
            if setup.max_log_bytes:
                buffer = CrashBuffer(self._crash_buffer)
                self._capture = Capture(setup.max_log_bytes, buffer, self._send_output)
                self._capture.install(level)
            streams = Streams()
            tasks = loading.load(setup.app, setup.tasks, setup.max_result_bytes)
            await loading.start(setup.app, tasks)
            streams.accept()
            gc.freeze()  # the app's own objects stay: the collector would look through them again and again
            ready = Ready(sorted(tasks.names), dict(tasks.timeouts))
        except loading.NotLoadable as error:
            self._send(encode(Unusable(str(error))))
            return
        except BaseException:  # noqa: BLE001 - this task is awaited nowhere, and the worker would wait for ever
            logger().error("this executor cannot begin", exc_info=True)
            _die()
        results = ResultEncoder(setup.max_result_bytes, setup.max_error_bytes)
        self._tasks = tasks
        learn_from(setup.transactions.dsn)
        loop = asyncio.get_running_loop()
        self._runner = Runner(
            tasks,
            setup.app,
            results,
            self._send_ends,
            self._send_message,
            setup.patience,
            loading.task_connections(setup.transactions, setup.worker_id),
            self._capture,
            loop.background if isinstance(loop, Loop) else None,
            self._request_successor,
            streams,
        )
        self._send(encode(ready))

    async def stop(self) -> None:
        """Stop the app in good order."""
        if self._tasks is not None:
            await self._tasks.stop()

    def _send_ends(self, ends: list[End]) -> None:
        try:
            self._send(encode(Ends(ends, stdio.lines_lost())))
        except TooLong:
            if len(ends) > 1:
                for end in ends:
                    self._send_ends([end])
                return
            (end,) = ends
            text = f"the result of {len(end.data)} bytes is too long to be sent"
            self._send_ends([End(*end.attempt_id, EndKind.FAILED_FOR_GOOD, text.encode(), output=end.output)])

    def _request_successor(self, reason: str) -> None:
        """Ask for a successor. Running attempts go on here."""
        self._send(encode(Unusable(reason)))

    def _send_output(self, chunks: list[Chunk]) -> None:
        self._send(encode(LogMessage(chunks)))

    def _send_message(self, message: LinkMessage) -> None:
        self._send(encode(message))

    def _send(self, frame: bytes) -> None:
        assert self._transport is not None
        self._transport.write(frame)


def _die() -> NoReturn:
    """End at once, with all processes that the tasks have started: the worker is gone."""
    with suppress(OSError):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _prepare(parent: int) -> None:
    """Prepare this process: die with the worker, be killed first when memory runs out, do not end by Ctrl-C."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+") as file:
            file.write(str(min(1000, int(file.read()) + OOM_MARGIN)))
    if os.getppid() != parent:
        os._exit(1)
    # Handlers, not SIG_IGN: programs that tasks start would inherit that, and could not be ended by SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forks.no_reaction)
    forks.watch()
    stdio.open_closed()
    stdio.steady(PRINT_PATIENCE)
    faulthandler.enable(file=stdio.descriptor())  # not 2, which a task may close


async def _serve(fd: int, crash_buffer: int) -> None:
    os.set_inheritable(fd, False)
    # The worker must see this process's end, and read nothing that a fork writes.
    forks.in_child(lambda: forks.replace_sockets(fd))
    loop = asyncio.get_running_loop()
    os.set_inheritable(crash_buffer, False)
    transport, connection = await loop.create_connection(
        lambda: WorkerConnection(crash_buffer), sock=socket.socket(fileno=fd)
    )
    await connection.over.wait()
    await connection.stop()
    transport.close()


def main(arguments: list[str]) -> None:
    """Run until the worker sends Shutdown or is gone: `python -m taskd.executor.main FD PARENT CRASH_BUFFER`."""
    fd, parent, crash_buffer = map(int, arguments)
    _prepare(parent)
    loading.search_current_folder()
    spawning.follow(task_scope.process_started, task_scope.folder_changed, task_scope.inherit)
    with asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        forks.loop_runs_here(loop)
        serving = loop.create_task(_serve(fd, crash_buffer))
        while not serving.done():
            try:
                loop.run_until_complete(serving)
            except (SystemExit, KeyboardInterrupt) as error:
                # In an asyncio task of an attempt, these stop the loop as well. The task has its exception; the loop runs on.
                logger().warning("a task tried to end its executor", raised=type(error).__name__)


if __name__ == "__main__":
    main(sys.argv[1:])
