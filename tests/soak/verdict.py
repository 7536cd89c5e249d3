"""The verdicts on figures that must stay flat or bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskd.domain.band import BANDS
from taskd.settings import Settings
from tests.soak.trend import JUDGEABLE, Points, Trend, rise, span, thirds, trend, warm

#: Megabytes per 10 minutes that a process of taskd may grow, and one of a server.
SLOPE, SERVER_SLOPE = 1.0, 10.0
#: File descriptors or asyncio tasks by which the last third may exceed the first.
SLACK = 4.0
TEN_MINUTES = 600.0
SERVERS = ("postgres", "redis", "etcd")


@dataclass(frozen=True, kw_only=True)
class Process:
    """Row of one process."""

    name: str
    pid: int
    seconds: float
    begin: float
    end: float
    #: Megabytes of private memory per 10 minutes.
    memory: Trend | None
    fds: tuple[float, float]
    tasks: tuple[float, float] | None
    complaints: tuple[str, ...]
    judged: bool

    @property
    def verdict(self) -> str:
        """Verdict in one word or a few."""
        if self.complaints:
            return "GROWS"
        return "flat" if self.judged else "too short to judge"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Figure of the stores: its maximum, and its upper bound (None: it is only shown)."""

    name: str
    begin: float
    most: float
    end: float
    bound: float | None
    why: str

    @property
    def kept(self) -> bool:
        """True if the maximum is within the bound."""
        return self.bound is None or self.most <= self.bound


def judge(name: str, pid: int, figures: Mapping[str, Sequence[tuple[float, float]]]) -> Process:
    """Return the verdict on a process from its series."""
    memory = warm(figures["private"])
    judged = span(memory) >= JUDGEABLE
    slope = trend(memory)
    growth = None if slope is None else Trend(*(value * TEN_MINUTES for value in (slope.slope, slope.low, slope.high)))
    limit = SERVER_SLOPE if name in SERVERS else SLOPE
    complaints = []
    if judged and growth is not None and growth.slope > limit:
        complaints.append(
            f"{name} ({pid}) grows {growth.slope:+.2f} MB per 10 minutes (95 %: {growth.low:+.2f} to {growth.high:+.2f}), "
            f"at most {limit:g} is allowed"
        )
    for what in ("fds", "tasks", "threads"):
        more = rise(warm(figures.get(what, ())))
        if judged and name not in SERVERS and more > SLACK:
            complaints.append(f"{name} ({pid}) has {more:+.0f} {what} at the end")
    rss, fds, tasks = (warm(figures.get(name, ())) for name in ("rss", "fds", "tasks"))
    return Process(
        name=name,
        pid=pid,
        seconds=span(figures["rss"]),
        begin=rss[0][1],
        end=rss[-1][1],
        memory=growth,
        fds=(fds[0][1], fds[-1][1]),
        tasks=(tasks[0][1], tasks[-1][1]) if tasks else None,
        complaints=tuple(complaints),
        judged=judged,
    )


def bounds(
    stores: Mapping[str, Points], *, rate: float, maximum: float, slots: int, members: int, starts: int
) -> list[Bound]:
    """Return each figure of the stores with its bound."""
    # Each band may hold as many entries as the credit allows, and a dead worker's entries wait for adoption.
    entries = len(BANDS) * max(slots, maximum * Settings().scheduler.credit_seconds) + slots
    fixed = {
        "live jobs": (rate * 20 + slots, "20 s of the load, and the slots"),
        "stream entries": (entries, "the credit of each band, and the slots"),
        "pending entries": (2.0 * slots, "twice the slots: the live workers' and a dead one's"),
        "consumers": (float(members), "the members"),
        "Redis data, MB": (16.0, "a fixed figure"),
        "etcd keys": (4.0 * members, "two a member, and as many of the dead while their leases last"),
        "sessions": (float(members + starts), "one a start of a worker; they are forgotten an hour later"),
        "counter rows": (3.0 * (members + starts), "one a session and status"),
        "connections": (25.0 * members, "25 a member"),
    }
    judged = []
    for name, points in stores.items():
        settled = warm(points)
        bound, why = fixed.get(name) or _own_past(name, settled)
        values = [value for _, value in settled]
        judged.append(Bound(name=name, begin=values[0], most=max(values), end=values[-1], bound=bound, why=why))
    return judged


def _own_past(name: str, settled: Points) -> tuple[float | None, str]:
    """Return a bound from the first third of the series, for figures that are cleared regularly and so keep their size."""
    slack = {"jobs table, MB": 16.0, "dead rows": 20_000.0, "etcd file, MB": 0.25}.get(name)
    if slack is None:
        return None, "grows with the jobs that ever were"
    if span(settled) < JUDGEABLE:
        return None, "too short to judge"
    return 1.5 * max(thirds(settled)[0]) + slack, f"1.5 times the most of the first third, and {slack:,g}"
