"""What task authors write: locks, children, snoozes, typed arguments, schedules. Beside the tasks of the ordinary traffic."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any

from pydantic import BaseModel, Field

from taskd import Context, Fail, Snooze
from taskd.torture.tasks import app, mark
from taskd.torture.workload import Maker, TrafficPlan, Workload

#: How many names the locks share.
LOCKS = 3
PATIENT: dict[str, Any] = {"max_retries": 50, "retry_backoff": {"initial": 0.3, "factor": 1, "max": 1, "jitter": True}}


class Item(BaseModel):
    """A Pydantic model as an argument."""

    sku: str = Field(min_length=3)
    price: Decimal
    due: datetime


@dataclass
class Basket:
    """A dataclass as an argument, with models in it."""

    owner: str
    items: list[Item]
    tags: set[str] = field(default_factory=set)


@app.task
async def guard(ctx: Context, name: str, seconds: float) -> int:
    """Hold a lock, and rely on it."""
    mark(ctx, "start")
    async with ctx.lock(name, wait=20) as held:
        mark(ctx, "lock", name, held.fence)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(0.02)
            mark(ctx, "believe", name, held.fence)
    mark(ctx, "end")
    return held.fence


@app.task
def guard_thread(ctx: Context, name: str, seconds: float) -> int:
    """The same in a thread."""
    mark(ctx, "start")
    with ctx.lock_sync(name, wait=20) as held:
        mark(ctx, "lock", name, held.fence)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.02)
            mark(ctx, "believe", name, held.fence)
    mark(ctx, "end")
    return held.fence


@app.task
async def child(ctx: Context, number: int) -> int:
    """What parents submit."""
    mark(ctx, "start")
    mark(ctx, "end")
    return number


@app.task
async def beget(ctx: Context, children: int, fall: bool) -> Sequence[int]:
    """Submit children under keys of their own, all over again if an attempt fails half-way; their ids."""
    mark(ctx, "start")
    ids = []
    for number in range(children):
        key = f"child-{ctx.job.id}-{number}"
        options = child.options(dedupe_key=key, queue=ctx.job.queue)
        ids.append((await ctx.submit(options, number)).id)
        mark(ctx, "child", key, ids[-1])
        await asyncio.sleep(0.05)
    if fall and ctx.job.failures == 0:
        raise RuntimeError("a failure after all children were submitted, as it was asked to")
    mark(ctx, "end")
    return ids


@app.task
def doze(ctx: Context, times: int, seconds: float) -> int:
    """Snooze so many times. Its job has no retries."""
    mark(ctx, "start")
    done = ctx.checkpoint_value or 0
    if done < times:
        ctx.checkpoint_sync(done + 1)
        mark(ctx, "snooze", seconds)
        raise Snooze(seconds, f"snooze {done + 1} of {times}")
    mark(ctx, "end")
    return ctx.attempt


@app.task
async def perch(ctx: Context, seconds: float) -> int:
    """Only the first attempt stores a checkpoint; it fails, as do two more. The step that the last one was handed."""
    mark(ctx, "start")
    attempt, step = ctx.checkpoint_value or (0, 0)
    mark(ctx, "resume", attempt, step)
    await asyncio.sleep(seconds if ctx.attempt == 2 else 1.0)
    if ctx.attempt == 1:
        mark(ctx, "save", 1)
        await ctx.checkpoint([1, 1])
        mark(ctx, "saved", 1)
    if ctx.attempt < 4:
        raise RuntimeError("an attempt that fails, as it was asked to")
    mark(ctx, "end")
    return int(step)


@app.task
def sell(ctx: Context, basket: Basket, at: datetime, gift: bool = False) -> str:
    """Look at its arguments: they are what they were."""
    mark(ctx, "start")
    known = [isinstance(item, Item) and isinstance(item.price, Decimal) and item.due.tzinfo for item in basket.items]
    if not (isinstance(basket, Basket) and all(known) and isinstance(basket.tags, set) and at.tzinfo is not None):
        raise Fail(f"these are not the arguments that were sent: {basket!r}, {at!r}, {gift!r}")
    mark(ctx, "end")
    return str(sum((item.price for item in basket.items), Decimal(0)))


@app.task
async def tick(ctx: Context, seconds: float) -> str:
    """What schedules submit."""
    mark(ctx, "start")
    await asyncio.sleep(seconds)
    mark(ctx, "end")
    return str(ctx.job.metadata["fire_at"])


class Author(Workload, frozen=True, kw_only=True):
    """The shares of what task authors write."""

    short: float = 60.0
    long: float = 8.0
    climbing: float = 10.0
    guarding: float = 1.5
    begetting: float = 6.0
    dozing: float = 6.0
    selling: float = 6.0

    def makers(self) -> dict[Maker, float]:
        """With those of the ordinary mix."""
        own: dict[Maker, float] = {
            _guarding: self.guarding,
            _begetting: self.begetting,
            _dozing: self.dozing,
            _selling: self.selling,
        }
        return super().makers() | own


def _guarding(random: Random) -> TrafficPlan:
    payload = {"name": f"author-{random.randrange(LOCKS)}", "seconds": round(random.uniform(0.1, 0.6), 2)}
    task = random.choice(("guard", "guard", "guard_thread"))
    return TrafficPlan(kind="guarding", task=task, payload=payload, fields=PATIENT)


def _begetting(random: Random) -> TrafficPlan:
    payload = {"children": random.randint(1, 3), "fall": random.random() < 0.3}
    return TrafficPlan(kind="begetting", task="beget", payload=payload, fields=PATIENT)


def _dozing(random: Random) -> TrafficPlan:
    payload = {"times": random.randint(1, 4), "seconds": round(random.uniform(0.1, 1.0), 2)}
    return TrafficPlan(kind="dozing", task="doze", payload=payload, fields={"max_retries": 0})


def _selling(random: Random) -> TrafficPlan:
    item = Item(sku="abc", price=Decimal("1.10"), due=datetime(2030, 1, 1, tzinfo=UTC))
    basket = Basket("ann", [item] * random.randint(0, 3), {"a", "b"})
    payload: dict[str, Any] = sell.options().document((basket, datetime.now(UTC)), {"gift": True})["payload"]
    return TrafficPlan(kind="selling", task="sell", payload=payload, fields={"max_retries": 0})
