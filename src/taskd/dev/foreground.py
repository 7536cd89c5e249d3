"""Running a cluster in the foreground: from the first line to "everything is down"."""

from __future__ import annotations

import time
from functools import partial

from rich.console import Console

from taskd.dev import screen
from taskd.dev.bell import StopAsked
from taskd.dev.cluster import Cluster
from taskd.dev.plan import Plan


def run(plan: Plan) -> None:
    """Keep a cluster up until Ctrl-C or SIGTERM. Raises TaskdError when it cannot start."""
    out = screen.console()
    begun = time.monotonic()
    try:
        with Cluster(plan, partial(screen.say, out)) as cluster:
            screen.summary(out, cluster, time.monotonic() - begun)
            keep(out, cluster)
    except StopAsked:
        out.print("stopped while it was starting")
    out.print("everything is down")


def keep(out: Console, cluster: Cluster) -> None:
    """Keep it up until the user has enough."""
    try:
        cluster.keep()
    except StopAsked:
        out.print("\nstopping workers, schedulers and servers (Ctrl-C again kills them)")
