"""Bands of priority: jobs of one band wait in one stream of Redis, and urgent bands go first."""

from __future__ import annotations

from typing import NamedTuple


class Band(NamedTuple):
    """The priorities `low` to `high`, both included."""

    low: int
    high: int


#: Urgent first. Few, because a worker asks for each of them.
BANDS = (Band(75, 100), Band(50, 74), Band(25, 49), Band(0, 24))


def band_of(priority: int) -> Band:
    """Return the band of a priority (0-100)."""
    return next(band for band in BANDS if priority >= band.low)


class Credit(NamedTuple):
    """The number of jobs of one queue and band that may be dispatched now."""

    queue: str
    band: Band
    jobs: int
