"""The entry point of `taskd torture`: the run with its view, and the verdict on the screen."""

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

#: Columns where there is no terminal.
PIPE_WIDTH = 120


def run(options: RunOptions, settings: Settings, *, folder_name: Path, to_stderr: bool) -> dict[str, Any] | None:
    """Run, and return the verdict as plain values; None if the user stopped it twice. Raises TaskdError.

    Progress and the verdict as text go to standard output. With `to_stderr`, progress alone goes to standard error.
    `folder_name` is the history's folder as the user wrote it.
    """
    out = SafeConsole(soft_wrap=True, stderr=to_stderr)
    if not out.is_terminal:
        out.width = PIPE_WIDTH
    where = (
        "a cluster of its own"
        if options.name_prefix is None
        else f"the given servers, in the queues {options.name_prefix}-…"
    )
    out.print(Text.assemble(("taskd torture", "bold"), f" on {where}, seed {options.seed}; starting it …"))
    try:
        verdict = runner.run(options, settings, View(out))
    except StopAsked:
        out.print("stopped; everything is down")
        return None
    if not to_stderr:
        show(out, verdict, folder_name)
    document: dict[str, Any] = msgspec.to_builtins(verdict)
    return {**document, "history": str(options.history)}
