"""Transfers in transactions that complete their jobs, for the worker of a separate queue (scenario 37)."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.chaos.mutants import MUTANTS

if "TASKD_MUTANT" in os.environ:  # an executor is a separate process, which reads the statements itself
    MUTANTS[os.environ["TASKD_MUTANT"]].apply()

from taskd.app import App, Context
from taskd.client import Client

app = App()

SCHEMA = "CREATE TABLE IF NOT EXISTS booked (job bigint, attempt int, amount bigint)"


@app.task
async def transfer(ctx: Context, seconds: float, crash: bool = False, cancel: str = "") -> int:
    """Book a transfer in `seconds` and complete the job; return the attempt.

    With `crash`, the first attempt kills its executor half-way. With `cancel`, the address of a scheduler, the job is
    cancelled at the last moment, too late for the cancel to reach the worker.
    """
    async with ctx.transaction() as conn:
        await conn.execute("INSERT INTO booked VALUES (%s, %s, 1)", [ctx.job.id, ctx.attempt])
        await asyncio.sleep(seconds / 2)
        if crash and ctx.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(seconds / 2)
        if cancel:
            with Client(cancel) as client:
                client.cancel(ctx.job.id)
        ctx.complete(ctx.attempt)
    return ctx.attempt
