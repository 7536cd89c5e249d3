"""Tests of the rates at which a worker's slots come free."""

from __future__ import annotations

import time

from taskd.worker.rates import Rates


def test_a_rate_needs_some_time_and_covers_the_last_half_minute() -> None:
    began = time.monotonic()
    rates = Rates()
    rates.ended["a"] += 6
    assert rates.measure(["a", "b"], began + 1.0) == {}
    assert rates.measure(["a", "b"], began + 3.0) == {"a": 2.0}
    # Without ends the rate stays until a whole window has passed.
    assert rates.measure(["a", "b"], began + 29.0) == {"a": round(6 / 29, 3)}
    for second in range(30, 70):
        measured = rates.measure(["a", "b"], began + second)
    assert measured == {"a": 0.0, "b": 0.0}
    rates.ended["a"] += 3
    assert rates.measure(["a"], began + 70.0) == {"a": 0.1}


def test_the_samples_are_bounded() -> None:
    rates, began = Rates(), time.monotonic()
    for step in range(1000):
        rates.measure(["a"], began + step * 0.5)
    assert len(rates._samples) < 40
