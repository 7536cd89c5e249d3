"""Transfers in transactions that complete their jobs, for a worker of a queue of their own (scenario 34)."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.chaos.mutants import MUTANTS

if "TASKD_MUTANT" in os.environ:  # an executor is a process of its own, in which these statements are read
    MUTANTS[os.environ["TASKD_MUTANT"]].apply()

from taskd.app import App, Context
from taskd.client import Client

app = App()

SCHEMA = "CREATE TABLE IF NOT EXISTS booked (job bigint, attempt int, amount bigint)"


@app.task
async def transfer(ctx: Context, seconds: float, crash: bool = False, cancel: str = "") -> int:
    """Book it, take some time, and complete the job. Or be killed in its middle, once; or let the scheduler at this address
    cancel the job at the last moment, when nobody can be told any more.
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
