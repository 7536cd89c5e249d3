"""What became slower since another run, each figure beside its own limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from bench.ceilings import beside, rises
from bench.words import text

#: By how much a figure that was measured once may change before it is told; and one whose passes agree.
ONCE, LEAST = 1.5, 1.25
#: How much more than the passes of one run two runs may differ.
MORE = 1.1
SIDE = "side by side, "


def fallen(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """A line for each figure that became slower, or costs more, by more than it changes by itself.

    Where a figure has a limit, how much of it was reached each time is compared, so a slower machine is no fault of ours.
    What a figure changes by itself is what the passes of the other run differ by: the best of them over the worst.
    """
    ours, theirs = _passes(now), _passes(then)
    lines = []
    for name, found in ours.items():
        if name not in theirs:
            continue
        figure, before = median(found), median(theirs[name])
        left, how = _change(name, figure, before, now["limits"], then["limits"])
        if left < 1 / noise(theirs[name]):
            lines.append(
                f"{name}: {text(figure)}, was {text(before)}: {how}; up to {noise(theirs[name]):.2f} times is noise"
            )
    return lines


def uncompared(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """The figures of the other run that this one does not have."""
    ours = _passes(now)
    return [name for name in _passes(then) if name not in ours]


def noise(passes: Sequence[float]) -> float:
    """By how many times a figure may be worse before that says something."""
    if len(passes) < 2 or min(passes) <= 0:
        return ONCE
    return max(LEAST, MORE * max(passes) / min(passes))


def _passes(run: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """Every figure of taskd's: its own, and what is measured as the peers' is, which has another idle latency."""
    several = run["ratios"] | run.get("passes", {})
    own = {name: several.get(name, [figure]) for name, figure in run["figures"].items()}
    contest = run["contest"]["taskd"].items()
    return own | {SIDE * name.startswith("idle") + name: passes for name, passes in contest}


def _change(
    name: str, now: float, then: float, limits: Mapping[str, float], limits_then: Mapping[str, float]
) -> tuple[float, str]:
    """(How much is left of what a figure was, 1 if nothing was lost; the same in words.)"""
    own = name.removeprefix(SIDE)
    if min(now, then) <= 0:  # a count of what must not be, or less than can be measured
        return (0.0 if now > then and not rises(own) else 1.0), "it was nothing"
    mine, before = beside(own, now, limits), beside(own, then, limits_then)
    if mine is None or before is None:
        times = now / then
        return (times if rises(own) else 1 / times), f"{times:.2f} times it"
    return mine.share / before.share, f"{mine.share:.0%} of its limit ({mine.name}), was {before.share:.0%}"
