"""Figures that became slower since another run, each beside its own limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.ceilings import higher_is_better, limit_share
from bench.formatting import text

#: The factor by which a figure may change without a report: if it was measured once; if its passes agree.
ONCE, LEAST = 1.5, 1.25
#: How much more than the passes of one run two runs may differ.
MORE = 1.1
SIDE = "side by side, "


def slower(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """Return a line for each figure that became slower, or costs more, by more than its noise.

    If a figure has a limit, the reached shares of it are compared, so that a slower machine does not count. The noise
    is the ratio of the best to the worst pass of the other run.
    """
    ours, theirs = _passes(now), _passes(then)
    lines = []
    for name, passes in ours.items():
        if name not in theirs:
            continue
        figure, before = median(passes), median(theirs[name])
        left, how = _change(name, figure, before, now["limits"], then["limits"])
        if left < 1 / noise(theirs[name]):
            lines.append(
                f"{name}: {text(figure)}, was {text(before)}: {how}; up to {noise(theirs[name]):.2f} times is noise"
            )
    return lines


def uncompared(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """Return the figures of the other run that this one does not have."""
    ours = _passes(now)
    return [name for name in _passes(then) if name not in ours]


def noise(passes: Sequence[float]) -> float:
    """Return the factor by which a figure may be worse within the noise."""
    if len(passes) < 2 or min(passes) <= 0:
        return ONCE
    return max(LEAST, MORE * max(passes) / min(passes))


def _passes(run: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """Return every figure of taskd's: its own, and those of the contest, which has another idle latency."""
    several = run["ratios"] | run.get("passes", {})
    own = {name: several.get(name, [figure]) for name, figure in run["figures"].items()}
    contest = run["contest"]["taskd"].items()
    return own | {SIDE * name.startswith("idle") + name: passes for name, passes in contest}


def _change(
    name: str, now: float, then: float, limits: Mapping[str, float], limits_then: Mapping[str, float]
) -> tuple[float, str]:
    """Return the remaining share of a figure, 1 if nothing was lost, and the same in words."""
    own = name.removeprefix(SIDE)
    if min(now, then) <= 0:  # a count that must be 0, or too little to measure
        return (0.0 if now > then and not higher_is_better(own) else 1.0), "it was nothing"
    mine, before = limit_share(own, now, limits), limit_share(own, then, limits_then)
    if mine is None or before is None:
        times = now / then
        return (times if higher_is_better(own) else 1 / times), f"{times:.2f} times it"
    return mine.share / before.share, f"{mine.share:.0%} of its limit ({mine.name}), was {before.share:.0%}"
