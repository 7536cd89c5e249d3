"""Tasks that crash, hang, leave work behind, return bad values or misuse the standard streams."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import faulthandler
import io
import logging
import logging.config
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import structlog

from taskd import App, Context, Fail, RetryAt, Snooze

app = App()
POOL: list[str] = []


@app.task
async def add(a: int, b: int) -> int:
    return a + b


@app.task
def thread_add(a: int, b: int) -> int:
    return a + b


@app.task
async def whoami(ctx: Context) -> list[int]:
    return [ctx.job.id, ctx.attempt, os.getpid()]


@app.task
async def segfault() -> None:
    ctypes.string_at(0)


@app.task
async def leave() -> None:
    os._exit(3)


@app.task
async def shot() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
async def naps() -> None:
    await asyncio.sleep(3600)


@app.task
def thread_naps() -> None:
    time.sleep(3600)


@app.task
async def spins() -> None:
    while True:
        pass


@app.task
def thread_spins() -> None:
    while True:
        pass


@app.task
def holds_the_gil() -> int:
    return len(str(7 ** (7**9)))


@app.task
async def nan() -> float:
    return float("nan")


@app.task
async def nul() -> str:
    return "a\x00b"


@app.task
async def surrogate() -> str:
    return "\ud800"


@app.task
async def raw() -> object:
    return b"bytes"


@app.task
async def thing() -> object:
    return object()


@app.task
async def deep() -> object:
    value: list[object] = []
    for _ in range(10_000):
        value = [value]
    return value


@app.task
async def large() -> str:
    return "x" * 200_000


@app.task
async def raises() -> None:
    raise ValueError("boom \x00 \ud800")


@app.task
async def exits() -> None:
    raise SystemExit(5)


@app.task
def interrupts() -> None:
    raise KeyboardInterrupt


@app.task
async def gives_up() -> None:
    raise Fail("never mind")


@app.task
async def later() -> None:
    raise RetryAt(datetime.now(UTC) + timedelta(hours=1))


@app.task(timeout=0.2)
async def naps_briefly() -> None:
    await asyncio.sleep(3600)


@app.task(timeout=30)
async def tells_its_timeout(ctx: Context) -> float | None:
    return ctx.job.timeout


marks: list[str] = []


async def mark_when_cancelled(word: str) -> None:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        marks.append(word)
        raise


async def starts_another() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        strays.add(asyncio.create_task(mark_when_cancelled("late")))


strays: set[asyncio.Task[None]] = set()


@app.task
async def leaves_tasks_behind() -> str:
    """Return while two asyncio tasks run, one of which starts another when it is cancelled."""
    strays.add(asyncio.create_task(mark_when_cancelled("child")))
    strays.add(asyncio.create_task(starts_another()))
    await asyncio.sleep(0)
    return "returned"


@app.task
async def shares_a_task() -> None:
    """Start an asyncio task in a separate context, which outlives the attempt."""
    strays.add(asyncio.create_task(mark_when_cancelled("shared"), context=contextvars.Context()))
    await asyncio.sleep(0)


@app.task
async def tells_its_marks() -> list[str]:
    return sorted([*marks, *("alive" for stray in strays if not stray.done())])


async def outstays() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            marks.append("ignored")


@app.task
async def leaves_a_stubborn_task_behind() -> None:
    strays.add(asyncio.create_task(outstays()))
    await asyncio.sleep(0)


@app.task
async def fills(length: int) -> str:
    return "x" * length


async def walks_out() -> None:
    raise SystemExit(3)


@app.task
async def starts_one_that_exits() -> None:
    await asyncio.create_task(walks_out())


@app.task
async def babbles() -> None:
    os.write(int(sys.argv[1]), b"\xff" * 64)
    await asyncio.sleep(3600)


@app.task
async def tells(ctx: Context, pause: float = 0.0) -> None:
    for number in range(101):
        await ctx.progress(number / 100, f"{number} of 100\0")
        await asyncio.sleep(pause)


@app.task
def thread_tells(ctx: Context) -> None:
    for number in range(101):
        ctx.progress_sync(number / 100)


@app.task
async def saves(ctx: Context, value: object) -> object:
    await ctx.checkpoint(value)
    return ctx.checkpoint_value


@app.task
def thread_saves(ctx: Context, value: object) -> object:
    ctx.checkpoint_sync(value)
    return ctx.checkpoint_value


@app.task
async def saves_nonsense(ctx: Context, size: int) -> list[str]:
    errors = []
    for value in (ctx, "x" * size, float("nan")):
        try:
            await ctx.checkpoint(value)
        except ValueError as error:
            errors.append(str(error))
    for fraction in (1.5, float("nan")):
        try:
            await ctx.progress(fraction)
        except ValueError as error:
            errors.append(str(error))
    return errors


@app.task
def polls(ctx: Context) -> str:
    flag = ctx.cancelled
    ctx.progress_sync(0, "begun")
    flag.wait(30)
    ctx.progress_sync(1, "tidied up")
    return "not its own end"


@app.task
async def snoozes(seconds: float) -> None:
    raise Snooze(seconds, "not yet")


@app.on_start
async def open_pool() -> None:
    await asyncio.sleep(0)
    POOL.append("started")


@app.on_start
def open_more() -> None:
    POOL.append("started more")


def stopped(what: str) -> None:
    with open(os.environ.get("STOPPED_FILE", os.devnull), "a") as file:
        file.write(f"{what}\n")


@app.on_stop
async def close_pool() -> None:
    await asyncio.to_thread(stopped, "pool")


@app.on_stop
def close_more() -> None:
    stopped("more")
    raise RuntimeError("this stops no program")


@app.task
async def pool() -> list[str]:
    return POOL


@app.task
async def last_words(ctx: Context) -> None:
    await ctx.progress(0)
    try:
        await asyncio.sleep(3600)
    finally:
        await ctx.checkpoint("last")


@app.task
def thread_last_words(ctx: Context) -> None:
    flag = ctx.cancelled
    ctx.progress_sync(0)
    flag.wait(30)
    ctx.checkpoint_sync("last")


@app.task
async def waits_for_itself(ctx: Context) -> None:
    ctx.checkpoint_sync(1)


@app.task
def says(ctx: Context, text: str) -> None:
    print("printed", text)
    print("to stderr", text, file=sys.stderr)
    logging.getLogger("shop").info("logged %s", text)
    ctx.log.info("by ctx", text=text)
    subprocess.run(["echo", "by a child process"], check=True)


@app.task
async def says_and_dies(how: str) -> None:
    print("last words")
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(timeout=0.5)
def dawdles() -> None:
    print("dawdling")
    while True:
        time.sleep(0.01)


@app.task
async def talks_for_ever() -> None:
    number = 0
    while True:
        number += 1
        print("line", number)
        if number % 100 == 0:
            await asyncio.sleep(0.01)


@app.task
def forge(frame: str) -> None:
    """Write bytes, given in hexadecimal, to the worker without the executor, and continue."""
    os.write(int(sys.argv[1]), bytes.fromhex(frame))
    time.sleep(60)


@app.task
async def rests(seconds: float) -> float:
    """Sleep and return the seconds."""
    await asyncio.sleep(seconds)
    return seconds


@app.task
def spoil(how: str) -> None:
    """Damage the standard streams in ways in which a task may by mistake."""
    if how == "close":
        sys.stdout.close()
        sys.stderr.close()
    elif how == "close what is below":
        sys.stdout.buffer.close()
        sys.stderr.buffer.close()
    elif how == "close the descriptors":
        for number in (0, 1, 2):
            with contextlib.suppress(OSError):  # an earlier call has closed it
                os.close(number)
    elif how == "with":
        with sys.stdout, sys.stderr:
            print("inside")
    elif how == "detach":
        sys.stdout.detach()  # type: ignore[union-attr]
        sys.stderr = io.TextIOWrapper(sys.stderr.detach(), "utf-8")  # type: ignore[union-attr]
    elif how == "none":
        sys.stdout = sys.stderr = None
    elif how == "the original":
        sys.__stdout__.close()  # type: ignore[union-attr]
        sys.__stderr__.close()  # type: ignore[union-attr]
    elif how == "leave another":
        sys.stdout = sys.stderr = io.StringIO()
    else:
        with open(os.devnull, "w") as file:
            sys.stdout = sys.stderr = file


@app.task
def speaks() -> list[bool]:
    """Print in every way; return for each descriptor whether it is open."""
    print("out")
    print("original", file=sys.__stdout__)
    sys.stderr.write("err\n")
    faulthandler.enable()
    with contextlib.redirect_stdout(io.StringIO()) as elsewhere:
        print("elsewhere")
    assert elsewhere.getvalue() == "elsewhere\n"
    return [os.path.exists(f"/dev/fd/{number}") for number in (0, 1, 2)]


@app.task
def logs_after(how: str) -> None:
    """Configure logging as apps do, and log."""
    set_up(how)
    shop = logging.getLogger("shop")
    shop.info("an info line")
    shop.debug("a debug line")
    logging.getLogger("shop.inner").error("an error line of %s", "two")
    logging.getLogger("quiet").info("of a logger that its app keeps quiet")
    try:
        int("boom")
    except ValueError:
        logging.getLogger().exception("with a traceback")


def set_up(how: str) -> None:
    """Configure logging in one of several ways."""
    handler = {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}
    logging.getLogger("shop").setLevel(0)
    logging.getLogger("quiet").setLevel(logging.WARNING)
    if how == "dictConfig":
        root = {"handlers": ["console"], "level": "WARNING"}
        logging.config.dictConfig({"version": 1, "handlers": {"console": handler}, "root": root})
    elif how == "dictConfig that propagates nothing":
        shop = {"handlers": ["console"], "propagate": False}
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "handlers": {"console": handler},
                "loggers": {"shop": shop},
                "root": {"level": "ERROR"},
            }
        )
    elif how == "fileConfig":
        parts = ["[loggers]\nkeys=root", "[handlers]\nkeys=h", "[formatters]\nkeys=", "[logger_root]\nhandlers=h"]
        parts.append("[handler_h]\nclass=StreamHandler\nargs=(sys.stderr,)")
        logging.config.fileConfig(io.StringIO("\n".join(parts)))
    elif how == "basicConfig":
        logging.basicConfig(force=True, level=logging.INFO)
    elif how == "clear":
        logging.getLogger().handlers.clear()
    elif how == "shutdown":
        logging.shutdown()
    elif how == "disable":
        logging.disable(logging.CRITICAL)
    elif how == "level":
        logging.getLogger().setLevel(logging.CRITICAL)


@app.task
def logs_by_ctx(ctx: Context) -> None:
    """Reset structlog's configuration, and log also a value whose repr fails."""
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory())
    ctx.log.info("still heard", width=3)
    ctx.log.info("shy", value=FailingRepr())


class FailingRepr:
    """Value whose repr fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no")
