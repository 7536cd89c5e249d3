"""The tasks of a worker without an app: enough to see a cluster work."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from msgspec import Meta

from taskd.app.app import App
from taskd.app.context import Context

app = App()

#: Seconds: a year. Event loops cannot time much more.
LONGEST_SLEEP = 366 * 24 * 3600


@app.task
async def default(ctx: Context, /, *value: Any, **fields: Any) -> Any:
    """Log the payload and return it."""
    return _logged(ctx, value, fields)


@app.task
async def echo(ctx: Context, /, *value: Any, **fields: Any) -> Any:
    """Log the payload and return it."""
    return _logged(ctx, value, fields)


@app.task
async def sleep(seconds: Annotated[float, Meta(ge=0, le=LONGEST_SLEEP)]) -> None:
    """Sleep for the payload's number of seconds."""
    await asyncio.sleep(seconds)


@app.task
async def fail(ctx: Context, /, *value: Any, **fields: Any) -> None:
    """Raise, always: to see retries and failures."""
    raise RuntimeError(f"the task 'fail' fails: this was attempt {ctx.attempt} of job {ctx.job.id}")


def _logged(ctx: Context, value: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    payload = value[0] if value else fields
    ctx.log.info("payload", payload=payload)
    return payload
