"""Tests of the figures of the fault catalogue."""

from __future__ import annotations

import math

from tests.chaos import measure


def test_one_bad_moment_is_not_typical_but_a_bad_phase_is() -> None:
    calm = [(n / 70, 0.01) for n in range(700)]  # ten seconds
    stalled = [(at, 0.5 if 4.0 < at < 4.5 else s) for at, s in calm]
    slow = [(at, 0.5 if at > 4.0 else s) for at, s in calm]
    assert measure.percentile([s for _, s in stalled], 99) == 0.5
    assert measure.typical(stalled, 99) == measure.typical(calm, 99) == 0.01
    assert measure.typical(slow, 99) == 0.5


def test_no_samples_keep_no_bound() -> None:
    assert measure.typical([], 99) == math.inf
