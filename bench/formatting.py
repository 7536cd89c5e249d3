"""The text form of figures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def text(figure: float) -> str:
    """Return a figure with its significant digits."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def with_range(passes: Sequence[float]) -> str:
    """Return the median, and the range of the passes."""
    middle = text(median(passes))
    return middle if len(passes) == 1 else f"{middle} ({text(min(passes))} to {text(max(passes))})"
