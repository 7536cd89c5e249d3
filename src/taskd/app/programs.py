"""The built-in task `command`: runs a program that the operator allows, by its argument list and never through a shell.

The program gets a small environment of its own (the worker's has passwords in it), and lives in its executor's process group:
an executor that dies takes it along.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any
from uuid import uuid4

from taskd.app.context import Context
from taskd.app.replies import shortened, size, text
from taskd.domain.errors import Fail
from taskd.runtime import processes
from taskd.settings import TaskSettings

#: Variables that a program may have from the worker.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
#: Seconds between asking a program to end, because its job was cancelled or ran too long, and killing it.
GRACE = 1.0
#: The variable by which a run's processes are found, wherever they are.
MARK = "TASKD_RUN"
CHUNK = 64 * 1024


class Kept:
    """The beginning of what a program writes, and whether there was more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = bytearray()
        self.cut = False

    async def fill(self, stream: asyncio.StreamReader | None) -> None:
        """Read to the end, so that the program never waits for us."""
        assert stream is not None
        while data := await stream.read(CHUNK):
            room = self._most - len(self._bytes)
            self._bytes += data[:room]
            self.cut = self.cut or len(data) > room

    @property
    def text(self) -> str:
        """As text that PostgreSQL takes."""
        return text(bytes(self._bytes))


class Programs:
    """Runs what is allowed, one program an attempt."""

    def __init__(self, settings: TaskSettings, max_result: int) -> None:
        """`max_result`: bytes that a result may have. Raises ValueError for an allowed program that is no absolute path."""
        self._max_result = max_result
        self._allowed = allowed(settings.command_allow)
        self._most = settings.command_max_output

    async def command(self, ctx: Context, argv: list[str], stdin: str = "") -> dict[str, Any]:
        """Run `argv`; what it wrote. Any other exit status than 0 fails the attempt."""
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
        out, err = Kept(self._most), Kept(self._most)
        talk = asyncio.gather(out.fill(process.stdout), err.fill(process.stderr), _feed(process, stdin.encode()))
        try:
            status = await process.wait()
            # What it has started may hold its output open for ever.
            await asyncio.wait({talk}, timeout=GRACE)
        except BaseException:
            await asyncio.shield(_end(process, run))
            raise
        finally:
            talk.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await talk
        if status != 0:
            said = err.text.strip() or out.text.strip() or "it said nothing"
            raise RuntimeError(f"{argv[0]} {_fate(status)}: {said}")
        return _result(out, err, self._max_result)


def allowed(text: str) -> tuple[str, ...]:
    """The programs of the setting. Raises ValueError for one that is no absolute path."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for path in found:
        if not path.startswith("/"):
            raise ValueError(f"section [tasks], key 'command_allow': {path!r} is no absolute path")
    return found


def _result(out: Kept, err: Kept, limit: int) -> dict[str, Any]:
    """`stdout`, `stderr` and `cut`, as JSON of at most `limit` bytes: half of them for stderr at least, if it needs them.

    The program has run, so a result that is too large must not make its job run it again.
    """
    made: dict[str, Any] = {"stdout": "", "stderr": "", "cut": out.cut or err.cut}
    room = limit - size(made)
    made["stderr"] = shortened(err.text, max(room // 2, room - size(out.text)) + len('""'))
    made["stdout"] = shortened(out.text, limit - size(made) + len('""'))
    made["cut"] = made["cut"] or (made["stdout"], made["stderr"]) != (out.text, err.text)
    return made


def _environment(ctx: Context, run: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, "TASKD_JOB": str(ctx.job.id), "TASKD_ATTEMPT": str(ctx.attempt), MARK: run}


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    """Give it its input, which it need not read."""
    if process.stdin is None:
        return
    try:
        process.stdin.write(data)
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        pass
    except RuntimeError as error:
        # What uvloop says about a pipe whose other end was closed a moment ago.
        if "the handler is closed" not in str(error):
            raise
    process.stdin.close()


async def _end(process: asyncio.subprocess.Process, run: str) -> None:
    """End a program and whatever it has started: first by asking.

    What has left the program's tree (a session of its own, a parent that has ended) still has the run's mark.
    """
    await processes.end(processes.noted([process.pid]), GRACE, f"{MARK}={run}".encode())
    await process.wait()


def _fate(status: int) -> str:
    return f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
