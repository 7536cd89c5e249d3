"""Tasks that print and log."""

from __future__ import annotations

import logging
import subprocess
import sys

from taskd import App, Context

app = App()


@app.task
def shout(ctx: Context, text: str) -> str:
    """Write `text` to each stream and logger."""
    print(text)
    print(text, file=sys.__stdout__, flush=True)
    sys.stderr.write(text + "\n")
    logging.getLogger("shop").warning(text)
    ctx.log.info(text)
    subprocess.run([sys.executable, "-c", ""], check=True)
    return text


@app.task
async def pour(lines: int) -> int:
    """Print many lines."""
    for number in range(lines):
        print(number, "x" * 90)
    return lines
