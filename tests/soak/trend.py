"""The trend of a figure, with its confidence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

#: Seconds whose samples are reduced to their median, since single samples have peaks and noise.
WINDOW = 30.0
#: The normal quantile of a confidence of 95 %.
Z95 = 1.96
#: The share of a series, and the most seconds, that count at least as warm-up: for caches, pools and first runs of code.
WARM_UP, WARM_UP_SECONDS = 0.2, 180.0
#: Seconds after the warm-up below which a slope is noise.
JUDGEABLE = 480.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Trend:
    """Slope per second, with its interval of 95 % confidence."""

    slope: float
    low: float
    high: float


def warm(points: Points) -> Points:
    """Return the points after the warm-up: a fifth, or three minutes if those are at most a third of the series."""
    if not points:
        return points
    begin, length = points[0][0], points[-1][0] - points[0][0]
    skip = max(length * WARM_UP, min(WARM_UP_SECONDS, length / 3))
    return [(at, value) for at, value in points if at >= begin + skip]


def span(points: Points) -> float:
    """Return the seconds from the first point to the last."""
    return points[-1][0] - points[0][0] if points else 0.0


def medians(points: Points, window: float = WINDOW) -> list[tuple[float, float]]:
    """Return one point for each window of time."""
    windows: dict[int, list[tuple[float, float]]] = {}
    for at, value in points:
        windows.setdefault(int((at - points[0][0]) / window), []).append((at, value))
    return [
        (statistics.median(at for at, _ in group), statistics.median(value for _, value in group))
        for group in windows.values()
    ]


def trend(points: Points, window: float = WINDOW) -> Trend | None:
    """Return the Theil-Sen slope: the median of the slopes between all pairs, which a third of outliers does not move.

    The interval is Sen's, by ranks. It assumes independent points; figures of memory are not quite, so it is a little too
    narrow. Returns None for fewer than three windows.
    """
    points_of_windows = medians(points, window)
    count = len(points_of_windows)
    if count < 3:  # two points have one slope and no interval
        return None
    slopes = sorted((b - a) / (t - s) for (s, a), (t, b) in combinations(points_of_windows, 2))
    doubt = Z95 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, int((len(slopes) - doubt) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + doubt) / 2))
    return Trend(statistics.median(slopes), slopes[low], slopes[high])


def rise(points: Points) -> float:
    """Return the median of the last third minus that of the first."""
    first, last = thirds(points)
    return statistics.median(last) - statistics.median(first) if first and last else 0.0


def thirds(points: Points) -> tuple[list[float], list[float]]:
    """Return the values of the first and of the last third of the time."""
    if not points:
        return [], []
    begin, third = points[0][0], span(points) / 3
    return [v for at, v in points if at <= begin + third], [v for at, v in points if at >= begin + 2 * third]
