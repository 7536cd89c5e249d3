"""Running a cluster in the foreground: from the first line to "everything is down"."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rich.console import Console

from taskd.dev import screen
from taskd.dev.cluster import DevCluster
from taskd.dev.options import DevOptions
from taskd.dev.stop_signals import StopAsked


def run(plan: DevOptions, out: Console | None = None, play: Callable[[DevCluster], None] | None = None) -> None:
    """Start a cluster, `play` with it (or keep it up until Ctrl-C or SIGTERM), end it. Raises TaskdError."""
    out = out or screen.console()
    stopped = "stopped while it was starting"
    try:
        with DevCluster(plan, partial(screen.say, out)) as cluster:
            stopped = "stopped"
            if play is not None:
                play(cluster)
            else:
                screen.summary(out, cluster)
                keep(out, cluster)
    except StopAsked:
        out.print(stopped)
    out.print("everything is down")


def keep(out: Console, cluster: DevCluster) -> None:
    """Keep it up until the user has enough."""
    try:
        cluster.keep()
    except StopAsked:
        out.print("\nstopping workers, schedulers and servers (Ctrl-C again kills them)")
