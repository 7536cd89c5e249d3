"""What `taskd torture` calls: the run with its view, and the verdict on the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from rich.text import Text

from taskd.dev.stop_signals import StopAsked
from taskd.runtime.console import SafeConsole
from taskd.settings import Settings
from taskd.torture import runner
from taskd.torture.runner import RunOptions
from taskd.torture.verdict import show
from taskd.torture.view import View

__all__ = ["RunOptions", "run"]

#: Columns when nobody watches.
PIPE_WIDTH = 120


def run(order: RunOptions, settings: Settings, *, told: Path, aside: bool) -> dict[str, Any] | None:
    """The verdict as plain values; None if the user stopped it twice. `told` is how the history's folder is called.

    Progress goes to standard output, with the verdict in words; with `aside` to standard error, without. Raises TaskdError.
    """
    out = SafeConsole(soft_wrap=True, stderr=aside)
    if not out.is_terminal:
        out.width = PIPE_WIDTH
    where = "a cluster of its own" if order.guest is None else f"the given servers, in the queues {order.guest}-…"
    out.print(Text.assemble(("taskd torture", "bold"), f" on {where}, seed {order.seed}; starting it …"))
    try:
        verdict = runner.run(order, settings, View(out))
    except StopAsked:
        out.print("stopped; everything is down")
        return None
    if not aside:
        show(out, verdict, told)
    found: dict[str, Any] = msgspec.to_builtins(verdict)
    return {**found, "history": str(order.history)}
