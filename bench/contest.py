"""One contest of taskd and its peers, each measured in the same way: submit, work, count."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from bench.asked import idle
from bench.contestants import Contestant, Own, Tallies, contestants
from bench.machine import busy, proportional
from bench.rig import Rig, Role, until

#: The part of a drain that is not measured: workers need a while until they run.
WARM = 0.1

Passes = dict[str, list[float]]


def measure(contestant: Contestant, tallies: Tallies, rig: Rig) -> dict[str, float]:
    """Return the figures of one contestant in one pass."""
    before, jobs, backlog, client = tallies.done, contestant.jobs, contestant.backlog, contestant.client
    few = max(200, jobs // 50)
    _, seconds_one = client.submit("one", few)
    _, seconds_bulk = client.submit("bulk", backlog)
    expected = before + few + backlog + 2
    contestant.begin()
    drained = drain(lambda: tallies.done, before, expected)
    used, (began, _) = busy(), client.submit("bulk", jobs)
    expected += jobs + 1
    until(lambda: tallies.done >= expected)
    whole = time.monotonic() - began
    used = busy() - used
    megabytes = proportional(contestant.pids)
    latencies = idle(contestant, tallies, rig, 100)
    contestant.end()
    return {
        "one by one, jobs/s": few / seconds_one,
        "in bulk, jobs/s": backlog / seconds_bulk,
        "drain, jobs/s": drained,
        "end to end, jobs/s": jobs / whole,
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
    """Several passes, each with every contestant once.

    `results` has the figures of each pass, by contestant and name. A contestant that fails is removed from all passes.
    """

    def __init__(self, rig: Rig, scheduler: Role, say: Callable[[str], None], *, peers: bool) -> None:
        self._rig = rig
        self._field = contestants(rig, scheduler, say, peers=peers)
        self.results: dict[str, Passes] = {contestant.name: {} for contestant, _ in self._field}

    @property
    def notes(self) -> dict[str, str]:
        """Return the setup of each contestant."""
        return {contestant.name: contestant.note for contestant, _ in self._field}

    def run(self, say: Callable[[str], None]) -> None:
        """Measure one pass."""
        for contestant, tallies in list(self._field):
            say(contestant.name)
            try:
                gather(self.results[contestant.name], measure(contestant, tallies, self._rig))
            except (RuntimeError, TimeoutError, OSError) as error:
                contestant.end()
                if contestant.name == Own.name:
                    raise
                say(f"{contestant.name} failed, and is left out: {error}")
                del self.results[contestant.name]  # medians and ratios need passes with all contestants
                self._field.remove((contestant, tallies))


def gather(passes: Passes, figures: dict[str, float]) -> None:
    """Add the figures of one more pass."""
    for name, figure in figures.items():
        passes.setdefault(name, []).append(figure)


def medians(passes: Passes) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: median(values) for name, values in passes.items()}
