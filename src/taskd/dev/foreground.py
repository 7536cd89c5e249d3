"""A cluster in the foreground: from the first line to "everything is down"."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rich.console import Console

from taskd.dev import screen
from taskd.dev.cluster import DevCluster
from taskd.dev.options import DevOptions
from taskd.dev.stop_signals import StopAsked


def run(options: DevOptions, out: Console | None = None, play: Callable[[DevCluster], None] | None = None) -> None:
    """Start a cluster, call `play` with it (or keep it up until Ctrl-C or SIGTERM), and end it. Raises TaskdError."""
    out = out or screen.console()
    stopped = "stopped while it was starting"
    try:
        with DevCluster(options, partial(screen.say, out)) as cluster:
            stopped = "stopped"
            if play is not None:
                play(cluster)
            else:
                screen.summary(out, cluster)
                supervise(out, cluster)
    except StopAsked:
        out.print(stopped)
    out.print("everything is down")


def supervise(out: Console, cluster: DevCluster) -> None:
    """Keep the cluster up until the user or the system stops it."""
    try:
        cluster.supervise()
    except StopAsked:
        out.print("\nstopping workers, schedulers and servers (Ctrl-C again kills them)")
