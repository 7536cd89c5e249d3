"""Durations as people write them: 90, 10m, 1h30m."""

from __future__ import annotations

import re

import typer

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def seconds(text: str) -> float:
    """The seconds of a duration. Raises BadParameter."""
    if _NUMBER.fullmatch(text):
        return float(text)
    if text and not _PART.sub("", text):
        return sum(float(number) * UNITS[unit] for number, unit in _PART.findall(text))
    raise typer.BadParameter(f"{text!r} is no duration: write seconds (90), or 45s, 10m, 2h, 1d, 1h30m")
