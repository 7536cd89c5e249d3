"""How figures are written."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def text(figure: float) -> str:
    """A figure with as many digits as say something."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def with_range(passes: Sequence[float]) -> str:
    """The median, and between what the passes were."""
    middle = text(median(passes))
    return middle if len(passes) == 1 else f"{middle} ({text(min(passes))} to {text(max(passes))})"
