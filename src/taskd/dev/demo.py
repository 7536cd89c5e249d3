"""`make demo`: runs jobs of several kinds on an embedded cluster, and keeps the cluster up afterwards.

Run as `python -m taskd.dev.demo [--exit] [--port N]`. Its data are temporary, so each demo begins with an empty cluster.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from taskd.client import Client
from taskd.dev import foreground, screen
from taskd.dev.cluster import DevCluster
from taskd.dev.demo_board import Board
from taskd.dev.demo_jobs import ExpectedJob, Watched, crowd, fillers, urgent_went_first
from taskd.dev.options import DevOptions
from taskd.dev.temporary import temporary_data
from taskd.domain.errors import TaskdError
from taskd.runtime.terminal import clean, prepare_streams

PREFIX = "taskd-demo-"
WORKERS, SLOTS = 2, 2
DEADLINE = 60.0
#: The demo's failures are part of it, so its lines show no warnings of them.
QUIET = ("--log-level", "ERROR")


class Demo:
    """The jobs on one cluster. `problems` lists unexpected results; None until all jobs are final."""

    def __init__(self, out: Console, *, leave: bool) -> None:
        self.problems: list[str] | None = None
        self._out = out
        self._leave = leave
        self._jobs: list[Watched] = []

    def play(self, cluster: DevCluster) -> None:
        """Submit the jobs and show them until all are final. Then keep the cluster up, unless it is to end."""
        self._out.print(f"\n{WORKERS} workers with {SLOTS} slots each are up: submitting jobs\n", style="bold")
        deadline = time.monotonic() + DEADLINE
        with Client(",".join(cluster.urls)) as client, Board(self._out) as board:
            self._submit(client, fillers(WORKERS * SLOTS))
            full = self._look(client, board)
            cluster.supervise(lambda: self._look(client, board) >= full or time.monotonic() > deadline, every=0.05)
            self._submit(client, crowd())
            cluster.supervise(lambda: self._over(client, board) or time.monotonic() > deadline, every=0.1)
        self.problems = [problem for job in self._jobs if (problem := job.problem()) is not None]
        self._report()
        if not self._leave:
            screen.summary(self._out, cluster)
            foreground.supervise(self._out, cluster)

    def _submit(self, client: Client, jobs: Sequence[ExpectedJob]) -> None:
        ids = client.submit_batch([job.fields for job in jobs])
        self._jobs += [Watched(job, job_id) for job, job_id in zip(jobs, ids, strict=True)]

    def _over(self, client: Client, board: Board) -> bool:
        self._look(client, board)
        return all(watched.is_final for watched in self._jobs)

    def _look(self, client: Client, board: Board) -> int:
        """Fetch every job that is not final. Return how many were started."""
        for watched in self._jobs:
            if not watched.is_final:
                watched.job = client.job(watched.job["id"])
        board.show(self._jobs)
        return sum("started_at" in watched.job for watched in self._jobs)

    def _report(self) -> None:
        assert self.problems is not None
        total = len(self._jobs)
        if urgent_went_first(self._jobs):
            self._out.print("\nThe urgent jobs started before those of low priority that had been submitted earlier.")
        if self.problems:
            expected = total - len(self.problems)
            self._out.print(
                f"{expected} of {total} jobs ended as expected: {'; '.join(self.problems)}", style="bold red"
            )
        else:
            self._out.print(f"all {total} jobs ended as expected", style="bold green")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Return its exit status: 0 if every job ended as expected."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="end the cluster when all jobs are final")
    parser.add_argument("--port", type=int, default=screen.DEFAULT_PORT, help="the API's port")
    given = parser.parse_args(arguments)
    prepare_streams()
    demo = Demo(out := screen.console(), leave=given.exit)
    worker = {"app": "taskd.dev.demo_tasks", "concurrency": str(SLOTS), "processes": "1"}
    try:
        with temporary_data(PREFIX) as data:
            foreground.run(
                DevOptions(data=data, port=given.port, workers=WORKERS, worker=worker, global_options=QUIET),
                out,
                demo.play,
            )
    except TaskdError as error:
        advice = f" (for make: make demo ARGS='--port {given.port + 10}')" if "--port" in str(error) else ""
        print(clean(f"error: {error}{advice}"), file=sys.stderr)  # noqa: T201  this is a command
        return 1
    return 0 if demo.problems == [] else 1


if __name__ == "__main__":
    sys.exit(main())
