"""The comparison of taskd with its peers. Each is measured in the same way: submit, run, count."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from bench.contestants import Contestant, Tallies, TaskdContestant, contestants
from bench.idle_latency import idle
from bench.machine import busy, proportional
from bench.rig import Rig, RunningProcess, until

#: The part of a drain that is not measured, since workers need some time until they run.
WARM = 0.1

Passes = dict[str, list[float]]


def measure(contestant: Contestant, tallies: Tallies, rig: Rig) -> dict[str, float]:
    """Return the figures of one contestant in one pass."""
    before, jobs, backlog, client = tallies.done, contestant.jobs, contestant.backlog, contestant.client
    singles = max(200, jobs // 50)
    _, seconds_one = client.submit("one", singles)
    _, seconds_bulk = client.submit("bulk", backlog)
    expected = before + singles + backlog + 2
    contestant.begin()
    drained = drain(lambda: tallies.done, before, expected)
    used, (began, _) = busy(), client.submit("bulk", jobs)
    expected += jobs + 1
    until(lambda: tallies.done >= expected)
    seconds = time.monotonic() - began
    used = busy() - used
    megabytes = proportional(contestant.pids)
    latencies = idle(contestant, tallies, rig, 100)
    contestant.end()
    return {
        "one by one, jobs/s": singles / seconds_one,
        "in bulk, jobs/s": backlog / seconds_bulk,
        "drain, jobs/s": drained,
        "end to end, jobs/s": jobs / seconds,
        "CPU, s per 100,000 jobs": used / jobs * 100_000,
        "memory, MB": megabytes,
        **latencies,
    }


def drain(count: Callable[[], int], before: int, expected: int) -> float:
    """Return jobs/s of newly started workers, without the time until they run."""
    first = before + int((expected - before) * WARM)
    until(lambda: count() >= first)
    began, counted = time.monotonic(), count()
    until(lambda: count() >= expected)
    return (expected - counted) / (time.monotonic() - began)


class Contest:
    """Passes in which every contestant is measured once.

    `results` has the figures of each pass, by contestant and name. A contestant that fails is removed from all passes.
    """

    def __init__(
        self, rig: Rig, scheduler: RunningProcess, report_progress: Callable[[str], None], *, peers: bool
    ) -> None:
        self._rig = rig
        self._contestants = contestants(rig, scheduler, report_progress, peers=peers)
        self.results: dict[str, Passes] = {contestant.name: {} for contestant, _ in self._contestants}

    @property
    def notes(self) -> dict[str, str]:
        """Return the setup of each contestant."""
        return {contestant.name: contestant.note for contestant, _ in self._contestants}

    def run(self, report_progress: Callable[[str], None]) -> None:
        """Measure one pass."""
        for contestant, tallies in list(self._contestants):
            report_progress(contestant.name)
            try:
                gather(self.results[contestant.name], measure(contestant, tallies, self._rig))
            except (RuntimeError, TimeoutError, OSError) as error:
                contestant.end()
                if contestant.name == TaskdContestant.name:
                    raise
                report_progress(f"{contestant.name} failed, and is left out: {error}")
                del self.results[contestant.name]  # medians and ratios need passes with all contestants
                self._contestants.remove((contestant, tallies))


def gather(passes: Passes, figures: dict[str, float]) -> None:
    """Add the figures of one more pass."""
    for name, figure in figures.items():
        passes.setdefault(name, []).append(figure)


def medians(passes: Passes) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: median(values) for name, values in passes.items()}
