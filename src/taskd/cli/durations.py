"""Durations as the command line takes and shows them: 90, 10m, 1h30m."""

from __future__ import annotations

import math
import re

import typer

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def seconds(text: str) -> float:
    """Return the seconds of a duration. Raises BadParameter."""
    if _NUMBER.fullmatch(text):
        return _finite(float(text), text)
    if text and not _PART.sub("", text):
        return _finite(sum(float(number) * UNITS[unit] for number, unit in _PART.findall(text)), text)
    raise typer.BadParameter(f"{text!r} is not a duration: write seconds (90), or 45s, 10m, 2h, 1d, 1h30m")


def optional_seconds(text: str | None) -> float | None:
    """Return the seconds of a duration; None without one. Raises BadParameter."""
    return None if text is None else seconds(text)


def _finite(number: float, text: str) -> float:
    if math.isinf(number):
        raise typer.BadParameter(f"{text[:20]}… is too long a duration")
    return number


def duration_text(duration: float) -> str:
    """Return a number of seconds as text: 0.031 s, 12.4 s, 3m 05s, 2h 14m, 3d 04h."""
    if duration < 60:
        return f"{duration:.3f} s" if duration < 1 else f"{duration:.1f} s"
    minutes, rest = divmod(int(duration), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours < 24 else f"{hours // 24}d {hours % 24:02d}h"
