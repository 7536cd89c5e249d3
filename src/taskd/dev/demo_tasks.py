"""The tasks of `make demo`: one of each kind."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from taskd.app import App, Context
from taskd.domain.errors import Fail

app = App()


@app.task
async def echo(ctx: Context, /, *value: Any, **fields: Any) -> Any:
    """Return the payload."""
    return value[0] if value else fields


@app.task
async def resize(picture: str, seconds: float) -> str:
    """Sleep, as if a slow service were called."""
    await asyncio.sleep(seconds)
    return f"{picture} resized"


@app.task
def checksum(text: str, rounds: int) -> str:
    """Hash for a while: a plain function, so it runs in a thread."""
    digest = text.encode()
    for _ in range(rounds):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()[:16]


@app.task
async def unsteady(ctx: Context) -> str:
    """Fail at first, then succeed."""
    if ctx.attempt == 1:
        raise ConnectionError("the first attempt always fails")
    return f"worked at attempt {ctx.attempt}"


@app.task
async def hopeless(order: int) -> None:
    """Fail for good, without further retries."""
    raise Fail(f"order {order} does not exist")
