"""Whether a figure rises, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

#: Seconds whose samples become one point, their median: single samples are spikes of garbage and noise.
WINDOW = 30.0
#: The normal quantile of a confidence of 95 %.
Z95 = 1.96
#: The share of a series, and the most seconds, that count as warm-up at least: caches fill, pools open, code is first run.
WARM_UP, WARM_UP_SECONDS = 0.2, 180.0
#: Seconds after the warm-up below which a slope is noise.
JUDGEABLE = 480.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Trend:
    """A slope per second, with the interval in which it lies with a confidence of 95 %."""

    slope: float
    low: float
    high: float


def warm(points: Points) -> Points:
    """What is left after the warm-up: a fifth, or three minutes if those are not more than a third of the series."""
    if not points:
        return points
    begin, length = points[0][0], points[-1][0] - points[0][0]
    skip = max(length * WARM_UP, min(WARM_UP_SECONDS, length / 3))
    return [(at, value) for at, value in points if at >= begin + skip]


def span(points: Points) -> float:
    """Seconds from the first point to the last."""
    return points[-1][0] - points[0][0] if points else 0.0


def medians(points: Points, window: float = WINDOW) -> list[tuple[float, float]]:
    """One point for each window of time."""
    windows: dict[int, list[tuple[float, float]]] = {}
    for at, value in points:
        windows.setdefault(int((at - points[0][0]) / window), []).append((at, value))
    return [
        (statistics.median(at for at, _ in group), statistics.median(value for _, value in group))
        for group in windows.values()
    ]


def trend(points: Points, window: float = WINDOW) -> Trend | None:
    """Theil and Sen's slope: the median of the slopes between all pairs, which a third of wild points does not move.

    The interval is Sen's, by ranks. It takes the points as independent; memory is not quite, so it is a little too narrow.
    None of fewer than three windows.
    """
    found = medians(points, window)
    count = len(found)
    if count < 3:  # two points have one slope and no doubt
        return None
    slopes = sorted((b - a) / (t - s) for (s, a), (t, b) in combinations(found, 2))
    doubt = Z95 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, int((len(slopes) - doubt) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + doubt) / 2))
    return Trend(statistics.median(slopes), slopes[low], slopes[high])


def rise(points: Points) -> float:
    """How much more the median of the last third is than that of the first."""
    first, last = thirds(points)
    return statistics.median(last) - statistics.median(first) if first and last else 0.0


def thirds(points: Points) -> tuple[list[float], list[float]]:
    """The values of the first and of the last third of the time."""
    if not points:
        return [], []
    begin, third = points[0][0], span(points) / 3
    return [v for at, v in points if at <= begin + third], [v for at, v in points if at >= begin + 2 * third]
