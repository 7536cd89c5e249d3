"""The built-in task `command`: runs a program that the operator allows, by its argument list and never through a shell.

The program gets a small environment of its own, because the worker's contains passwords. It runs in its executor's process
group, and ends with its executor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any
from uuid import uuid4

from taskd.app.builtin.result_text import shortened, size, text
from taskd.app.context import Context
from taskd.domain.errors import Fail
from taskd.runtime import processes
from taskd.settings import TaskSettings

#: Environment variables that a program inherits from the worker.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
#: Seconds between the signals to end and to kill, for a program whose job was cancelled or ran too long.
GRACE = 1.0
#: The environment variable that marks all processes of a run, also those outside its process tree.
MARK = "TASKD_RUN"
CHUNK = 64 * 1024


class OutputHead:
    """The first bytes of a program's output; `cut` is True if there was more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = bytearray()
        self.cut = False

    async def read(self, stream: asyncio.StreamReader | None) -> None:
        """Read the stream to its end, so that the program never blocks on its output."""
        assert stream is not None
        while data := await stream.read(CHUNK):
            room = self._most - len(self._bytes)
            self._bytes += data[:room]
            self.cut = self.cut or len(data) > room

    @property
    def text(self) -> str:
        """The output as text that PostgreSQL takes."""
        return text(bytes(self._bytes))


class CommandTask:
    """Runs allowed programs, one each attempt."""

    def __init__(self, settings: TaskSettings, max_result: int) -> None:
        """`max_result`: the most bytes of a result. Raises ValueError for an allowed program that is no absolute path."""
        self._max_result = max_result
        self._allowed = allowed(settings.command_allow)
        self._most = settings.command_max_output

    async def command(self, ctx: Context, argv: list[str], stdin: str = "") -> dict[str, Any]:
        """Run `argv` and return its output. Any other exit status than 0 fails the attempt."""
        if not argv or argv[0] not in self._allowed:
            raise Fail(f"{argv[0] if argv else ''!r} is no program that this worker may run (tasks.command_allow)")
        run = uuid4().hex
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(ctx, run),
            )
        except OSError as error:
            raise RuntimeError(f"{argv[0]} cannot be started: {error.strerror}") from None
        out, err = OutputHead(self._most), OutputHead(self._most)
        pipes = asyncio.gather(out.read(process.stdout), err.read(process.stderr), _feed(process, stdin.encode()))
        try:
            status = await process.wait()
            # Processes that it has started may hold its output open for ever.
            await asyncio.wait({pipes}, timeout=GRACE)
        except BaseException:
            await asyncio.shield(_end(process, run))
            raise
        finally:
            pipes.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pipes
        if status != 0:
            reason = err.text.strip() or out.text.strip() or "it said nothing"
            raise RuntimeError(f"{argv[0]} {_end_of(status)}: {reason}")
        return _result(out, err, self._max_result)


def allowed(text: str) -> tuple[str, ...]:
    """Return the programs of the setting. Raises ValueError for one that is no absolute path."""
    programs = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for path in programs:
        if not path.startswith("/"):
            raise ValueError(f"section [tasks], key 'command_allow': {path!r} is no absolute path")
    return programs


def _result(out: OutputHead, err: OutputHead, limit: int) -> dict[str, Any]:
    """Return `stdout`, `stderr` and `cut`, which as JSON have at most `limit` bytes.

    At least half of them are for stderr, if it needs them. The program has run, so a result that is too large must not make
    its job run it again.
    """
    result: dict[str, Any] = {"stdout": "", "stderr": "", "cut": out.cut or err.cut}
    room = limit - size(result)
    result["stderr"] = shortened(err.text, max(room // 2, room - size(out.text)) + len('""'))
    result["stdout"] = shortened(out.text, limit - size(result) + len('""'))
    result["cut"] = result["cut"] or (result["stdout"], result["stderr"]) != (out.text, err.text)
    return result


def _environment(ctx: Context, run: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, "TASKD_JOB": str(ctx.job.id), "TASKD_ATTEMPT": str(ctx.attempt), MARK: run}


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    """Write the program's input, which it need not read."""
    if process.stdin is None:
        return
    try:
        process.stdin.write(data)
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass
    except RuntimeError as error:
        # uvloop's message for a pipe whose other end was closed a moment ago.
        if "the handler is closed" not in str(error):
            raise
    process.stdin.close()


async def _end(process: asyncio.subprocess.Process, run: str) -> None:
    """End a program and all processes that it has started: first with a signal to end, then to kill.

    A process that has left the program's tree (a session of its own, a parent that has ended) still has the run's mark.
    """
    await processes.end(processes.noted([process.pid]), GRACE, f"{MARK}={run}".encode())
    await process.wait()


def _end_of(status: int) -> str:
    return f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
