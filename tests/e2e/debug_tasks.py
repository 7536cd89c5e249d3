"""Tasks that fail, and log and print before that."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import time
from typing import Any

from taskd import App, Context, Fail

app = App()


@app.task
def misread(ctx: Context, text: str) -> Any:
    print("reading", text)
    logging.getLogger("orders").info("as JSON")
    ctx.log.warning("odd", text=text)
    try:
        return parse(text)
    except ValueError as error:
        raise RuntimeError(f"cannot read {text!r}") from error


def parse(text: str) -> int:
    return int(text)


@app.task
async def chatty(lines: int, nap: float) -> int:
    for number in range(lines):
        print("line", number)
        await asyncio.sleep(nap)
    return lines


@app.task
def poison() -> None:
    print("about to fall")
    ctypes.string_at(0)


@app.task
def waits() -> None:
    print("waiting")
    try:
        while True:
            time.sleep(0.01)
    finally:
        print("cleaning up")


@app.task
def quiet() -> None:
    raise Fail("no good")
