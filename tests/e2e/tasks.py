"""Tasks that write a trace: one line at their start and one at their end, before the worker reports anything."""

from __future__ import annotations

import asyncio
import os
import time

from taskd import App, Context, Fail, Snooze

app = App()


def mark(ctx: Context, what: str) -> None:
    """Write one short line in one write, so that lines of several processes do not mix."""
    line = f"{ctx.job.id} {ctx.attempt} {what} {time.clock_gettime(time.CLOCK_BOOTTIME)}\n"
    file = os.open(os.environ["TRACE_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


@app.task
async def nap(ctx: Context, seconds: float) -> float:
    """Sleep."""
    mark(ctx, "start")
    await asyncio.sleep(seconds)
    mark(ctx, "end")
    return seconds


@app.task
def block(ctx: Context, seconds: float) -> float:
    """Sleep in a thread."""
    mark(ctx, "start")
    time.sleep(seconds)
    mark(ctx, "end")
    return seconds


@app.task
def echoes(text: str) -> str:
    """Return the text."""
    return text


@app.task
async def flaky(ctx: Context, failures: int) -> int:
    """Fail in the first `failures` attempts, then succeed."""
    mark(ctx, "start")
    if ctx.attempt <= failures:
        raise RuntimeError(f"attempt {ctx.attempt} fails")
    mark(ctx, "end")
    return ctx.attempt


@app.task
async def die(ctx: Context) -> None:
    """End the executor process."""
    os._exit(3)


@app.task
async def linger(ctx: Context, seconds: float) -> None:
    """Sleep, and mark in the trace if it is stopped."""
    mark(ctx, "start")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        mark(ctx, "stopped")
        raise
    mark(ctx, "end")


@app.task
async def rest(seconds: float) -> None:
    """Sleep without a trace."""
    await asyncio.sleep(seconds)


@app.task
async def count_up(ctx: Context, to: int) -> list[int]:
    """Count from the checkpoint; the first attempt ends its executor half-way. Return the start of each attempt."""
    before, number = ctx.checkpoint_value or ([], 0)
    begun = [*before, number]
    while number < to:
        if number == to // 2 and len(begun) == 1:
            os._exit(3)
        number += 1
        await ctx.checkpoint([begun, number])
        await ctx.progress(number / to, f"at {number}")
    return begun


@app.task
async def exclusive(ctx: Context, name: str, seconds: float) -> int:
    """Hold a lock for `seconds` and return its fence."""
    async with ctx.lock(name, wait=20) as held:
        mark(ctx, "start")
        await asyncio.sleep(seconds)
        mark(ctx, "end")
        return held.fence


@app.task
def exclusive_thread(ctx: Context, name: str, wait: float) -> int:
    """Hold a lock in a thread and return its fence."""
    with ctx.lock_sync(name, wait=wait) as held:
        mark(ctx, "start")
        time.sleep(0.05)
        mark(ctx, "end")
        return held.fence


@app.task
async def parent(ctx: Context) -> list[int]:
    """Submit two jobs and return their ids."""
    first = await ctx.submit(nap, 0.0)
    second = ctx.submit_sync(block.options(priority=3, dedupe_key=f"child of {ctx.job.id}"), seconds=0.0)
    await app.aclose()
    app.close()
    return [first.id, second.id]


@app.task
def patient(ctx: Context, file: str) -> int:
    """Snooze until the file exists, and return the number of calls."""
    ctx.progress_sync(0.5, "looking")
    if not os.path.exists(file):
        raise Snooze(0.1, f"there is no {file}")
    return ctx.attempt


@app.task
async def half_way(ctx: Context, seconds: float) -> None:
    """Report half of the progress, and sleep."""
    await ctx.progress(0.5, "half way")
    await asyncio.sleep(seconds)


@app.task
async def doze(seconds: float) -> None:
    """Snooze without an end."""
    raise Snooze(seconds, "the shop is closed")


@app.task
def break_off(file: str) -> None:
    """Fail as soon as the file exists."""
    while not os.path.exists(file):
        time.sleep(0.01)
    raise RuntimeError("this is far enough")


@app.task
async def give_up() -> None:
    """Fail for good."""
    raise Fail("no such customer")
