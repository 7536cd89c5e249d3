"""Running a cluster in the foreground: from the first line to "everything is down"."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rich.console import Console

from taskd.dev import screen
from taskd.dev.bell import StopAsked
from taskd.dev.cluster import Cluster
from taskd.dev.plan import Plan


def run(plan: Plan, out: Console | None = None, play: Callable[[Cluster], None] | None = None) -> None:
    """Start a cluster, `play` with it (or keep it up until Ctrl-C or SIGTERM), end it. Raises TaskdError."""
    out = out or screen.console()
    stopped = "stopped while it was starting"
    try:
        with Cluster(plan, partial(screen.say, out)) as cluster:
            stopped = "stopped"
            if play is not None:
                play(cluster)
            else:
                screen.summary(out, cluster)
                keep(out, cluster)
    except StopAsked:
        out.print(stopped)
    out.print("everything is down")


def keep(out: Console, cluster: Cluster) -> None:
    """Keep it up until the user has enough."""
    try:
        cluster.keep()
    except StopAsked:
        out.print("\nstopping workers, schedulers and servers (Ctrl-C again kills them)")
