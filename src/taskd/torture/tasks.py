"""The tasks of the traffic. Each writes a line of the trace when it starts and one when it ends, before its result is reported.

The lines go to the file that TORTURE_TRACE names, each by one short write, so that lines of several processes do not mix. The
clock is CLOCK_BOOTTIME: one clock for all processes of a machine, and it is never set. The tasks of the soak, at the end of
this file, write no trace.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from taskd.app import App, Context

#: Seconds between the lines of a long task, which show a task that runs on after its attempt's end.
TICK = 0.25
#: Seconds that a task waits for a lock before it fails.
LOCK_PATIENCE = 10.0

app = App()
_clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return the time of the trace's clock."""
    return time.clock_gettime(_clock)


def mark(ctx: Context, what: str, *detail: object, at: float | None = None) -> None:
    """Write one line of the trace."""
    moment = now() if at is None else at
    words = (ctx.job.id, ctx.attempt, what, f"{moment:.6f}", os.getpid(), *detail)
    file = os.open(os.environ["TORTURE_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(file)


@app.task
async def nap(ctx: Context, seconds: float) -> float:
    """Sleep in the event loop."""
    mark(ctx, "start")
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > TICK:
        await asyncio.sleep(TICK)
        mark(ctx, "alive")
        print("alive")  # noqa: T201  its output is checked, too
    await asyncio.sleep(max(0.0, left))
    mark(ctx, "end")
    return seconds


@app.task
def block(ctx: Context, seconds: float) -> float:
    """Sleep in a thread."""
    mark(ctx, "start")
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > TICK:
        time.sleep(TICK)
        mark(ctx, "alive")
        print("alive")  # noqa: T201  as above
    time.sleep(max(0.0, left))
    mark(ctx, "end")
    return seconds


@app.task
async def flaky(ctx: Context, failures: int) -> int:
    """Fail so many times, then succeed."""
    mark(ctx, "start")
    if ctx.job.failures < failures:
        raise RuntimeError(f"failure {ctx.job.failures + 1} of {failures}, as it was asked to")
    mark(ctx, "end")
    return ctx.attempt


@app.task
async def locked(ctx: Context, name: str, seconds: float) -> int:
    """Hold a named lock of the cluster's for a while, and check it before each line of the trace."""
    # Imported here: only this task needs etcd, and gRPC costs every executor memory.
    from taskd.coordination.coordinator import EtcdCoordinator  # noqa: PLC0415
    from taskd.settings import load  # noqa: PLC0415

    mark(ctx, "start")
    async with EtcdCoordinator(load().etcd) as etcd, etcd.lock(f"torture/{name}", LOCK_PATIENCE) as lock:
        mark(ctx, "lock", name, lock.fence)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(0.02)
            before = now()  # a lock that is held afterwards was held then
            if not lock.held:
                raise RuntimeError(f"the lock {name} was lost")
            mark(ctx, "held", name, lock.fence, at=before)
    mark(ctx, "end")
    return lock.fence


@app.task
async def climb(ctx: Context, steps: int, seconds: float, fall: int) -> int:
    """Go on from the checkpoint, step by step; fail after each `fall` steps. Return the number of attempts."""
    mark(ctx, "start")
    step = _begin(ctx)
    while step < steps:
        await asyncio.sleep(seconds)
        step += 1
        mark(ctx, "save", step)
        await ctx.checkpoint([ctx.attempt, step])
        mark(ctx, "saved", step)
        await ctx.progress(step / steps, f"step {step}")
        mark(ctx, "told", step / steps)
        _fall(step, steps, fall)
    mark(ctx, "end")
    return ctx.attempt


@app.task
def scramble(ctx: Context, steps: int, seconds: float, fall: int) -> int:
    """Do the same as `climb`, in a thread."""
    mark(ctx, "start")
    step = _begin(ctx)
    while step < steps:
        time.sleep(seconds)
        step += 1
        mark(ctx, "save", step)
        ctx.checkpoint_sync([ctx.attempt, step])
        mark(ctx, "saved", step)
        ctx.progress_sync(step / steps, f"step {step}")
        mark(ctx, "told", step / steps)
        _fall(step, steps, fall)
    mark(ctx, "end")
    return ctx.attempt


def _begin(ctx: Context) -> int:
    """Return the step from which an attempt goes on, and write the given checkpoint to the trace."""
    attempt, step = ctx.checkpoint_value or (0, 0)
    mark(ctx, "resume", attempt, step)
    return int(step)


def _fall(step: int, steps: int, fall: int) -> None:
    if step < steps and step % fall == 0:
        raise RuntimeError(f"a fall at step {step}, as it was asked to")


@app.task
async def give(ctx: Context, value: Any) -> Any:
    """Return the value unchanged."""
    mark(ctx, "start")
    mark(ctx, "end")
    return value


# The soak's tasks write no trace: half an hour of thousands a second would fill a disk.


@app.task
async def noop() -> None:
    """Do nothing, on the event loop."""


@app.task
def plain() -> None:
    """Do nothing, in a thread."""


@app.task
async def stumble(ctx: Context) -> None:
    """Fail the first time."""
    if not ctx.job.failures:
        raise RuntimeError("the first failure, as it was asked to")
