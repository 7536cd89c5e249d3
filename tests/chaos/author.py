"""Tasks that use locks, children, snoozes, checkpoints, typed arguments and schedules, beside the ordinary traffic's."""

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

#: Number of names that the locks share.
LOCKS = 3
PATIENT: dict[str, Any] = {"max_retries": 50, "retry_backoff": {"initial": 0.3, "factor": 1, "max": 1, "jitter": True}}


class Item(BaseModel):
    """Pydantic model as an argument."""

    sku: str = Field(min_length=3)
    price: Decimal
    due: datetime


@dataclass
class Basket:
    """Dataclass as an argument, with models in it."""

    owner: str
    items: list[Item]
    tags: set[str] = field(default_factory=set)


@app.task
async def hold_lock(ctx: Context, name: str, seconds: float) -> int:
    """Hold a lock, and record in the trace that the task relies on it."""
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
def hold_lock_in_thread(ctx: Context, name: str, seconds: float) -> int:
    """Do the same as `hold_lock` in a thread."""
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
    """Do nothing; `submit_children` submits it."""
    mark(ctx, "start")
    mark(ctx, "end")
    return number


@app.task
async def submit_children(ctx: Context, children: int, fail: bool) -> Sequence[int]:
    """Submit children with a dedupe key each, all of them again in each attempt; return their ids."""
    mark(ctx, "start")
    ids = []
    for number in range(children):
        key = f"child-{ctx.job.id}-{number}"
        options = child.options(dedupe_key=key, queue=ctx.job.queue)
        ids.append((await ctx.submit(options, number)).id)
        mark(ctx, "child", key, ids[-1])
        await asyncio.sleep(0.05)
    if fail and ctx.job.failures == 0:
        raise RuntimeError("intended failure after all children were submitted")
    mark(ctx, "end")
    return ids


@app.task
def snooze_repeatedly(ctx: Context, times: int, seconds: float) -> int:
    """Snooze `times` times. Its job has no retries."""
    mark(ctx, "start")
    done = ctx.checkpoint_value or 0
    if done < times:
        ctx.checkpoint_sync(done + 1)
        mark(ctx, "snooze", seconds)
        raise Snooze(seconds, f"snooze {done + 1} of {times}")
    mark(ctx, "end")
    return ctx.attempt


@app.task
async def checkpoint_once(ctx: Context, seconds: float) -> int:
    """Store a checkpoint in the first attempt only, and fail three times; return the step that the fourth one received."""
    mark(ctx, "start")
    attempt, step = ctx.checkpoint_value or (0, 0)
    mark(ctx, "resume", attempt, step)
    await asyncio.sleep(seconds if ctx.attempt == 2 else 1.0)
    if ctx.attempt == 1:
        mark(ctx, "save", 1)
        await ctx.checkpoint([1, 1])
        mark(ctx, "saved", 1)
    if ctx.attempt < 4:
        raise RuntimeError("intended failure")
    mark(ctx, "end")
    return int(step)


@app.task
def check_arguments(ctx: Context, basket: Basket, at: datetime, gift: bool = False) -> str:
    """Check that the arguments have the types and values that were sent."""
    mark(ctx, "start")
    typed = [isinstance(item, Item) and isinstance(item.price, Decimal) and item.due.tzinfo for item in basket.items]
    if not (isinstance(basket, Basket) and all(typed) and isinstance(basket.tags, set) and at.tzinfo is not None):
        raise Fail(f"these are not the arguments that were sent: {basket!r}, {at!r}, {gift!r}")
    mark(ctx, "end")
    return str(sum((item.price for item in basket.items), Decimal(0)))


@app.task
async def tick(ctx: Context, seconds: float) -> str:
    """Sleep; the schedules submit it."""
    mark(ctx, "start")
    await asyncio.sleep(seconds)
    mark(ctx, "end")
    return str(ctx.job.metadata["fire_at"])


class AuthorWorkload(Workload, frozen=True, kw_only=True):
    """Shares of the ordinary kinds of jobs and of this module's."""

    short: float = 60.0
    long: float = 8.0
    climbing: float = 10.0
    locking: float = 1.5
    submitting: float = 6.0
    snoozing: float = 6.0
    typed: float = 6.0

    def makers(self) -> dict[Maker, float]:
        """Return the makers of both, with their shares."""
        makers: dict[Maker, float] = {
            _locking: self.locking,
            _submitting: self.submitting,
            _snoozing: self.snoozing,
            _typed: self.typed,
        }
        return super().makers() | makers


def _locking(random: Random) -> TrafficPlan:
    payload = {"name": f"author-{random.randrange(LOCKS)}", "seconds": round(random.uniform(0.1, 0.6), 2)}
    task = random.choice(("hold_lock", "hold_lock", "hold_lock_in_thread"))
    return TrafficPlan(kind="locking", task=task, payload=payload, fields=PATIENT)


def _submitting(random: Random) -> TrafficPlan:
    payload = {"children": random.randint(1, 3), "fail": random.random() < 0.3}
    return TrafficPlan(kind="submitting", task="submit_children", payload=payload, fields=PATIENT)


def _snoozing(random: Random) -> TrafficPlan:
    payload = {"times": random.randint(1, 4), "seconds": round(random.uniform(0.1, 1.0), 2)}
    return TrafficPlan(kind="snoozing", task="snooze_repeatedly", payload=payload, fields={"max_retries": 0})


def _typed(random: Random) -> TrafficPlan:
    item = Item(sku="abc", price=Decimal("1.10"), due=datetime(2030, 1, 1, tzinfo=UTC))
    basket = Basket("ann", [item] * random.randint(0, 3), {"a", "b"})
    payload: dict[str, Any] = check_arguments.options().document((basket, datetime.now(UTC)), {"gift": True})["payload"]
    return TrafficPlan(kind="typed", task="check_arguments", payload=payload, fields={"max_retries": 0})
