"""Tests of trends: a slope is found under noise and spikes, and a short series is not judged."""

from __future__ import annotations

import random

import pytest

from tests.soak.trend import JUDGEABLE, medians, rise, span, thirds, trend, warm
from tests.soak.verdict import bounds, judge

TEN_MINUTES = 600.0
Series = list[tuple[float, float]]


def series(per_ten_minutes: float, *, minutes: float = 24, noise: float = 0.5, seed: int = 1) -> Series:
    """Return a growing series with a sample every 5 s, noise, and a spike now and then."""
    chance = random.Random(seed)
    return [
        (at, 50 + per_ten_minutes * at / TEN_MINUTES + chance.gauss(0, noise) + (30 if chance.random() < 0.02 else 0))
        for at in map(float, range(0, int(minutes * 60), 5))
    ]


@pytest.mark.parametrize("growth", [-2.0, 0.0, 0.7, 3.0])
def test_a_slope_is_found_under_noise(growth: float) -> None:
    fitted = trend(series(growth))
    assert fitted is not None
    assert fitted.slope * TEN_MINUTES == pytest.approx(growth, abs=0.15)
    assert fitted.low < fitted.slope < fitted.high


@pytest.mark.parametrize("growth", [0.0, 3.0])
def test_the_interval_holds_the_truth_nearly_always(growth: float) -> None:
    trends = [trend(series(growth, seed=seed)) for seed in range(60)]
    held = sum(t is not None and t.low <= growth / TEN_MINUTES <= t.high for t in trends)
    assert held >= 51
    assert max(t.high - t.low for t in trends if t is not None) * TEN_MINUTES < 1.0


def test_a_step_in_the_last_minute_is_no_slope() -> None:
    points = [(at, 50.0 + 20 * (at > 1380)) for at in map(float, range(0, 1440, 5))]
    fitted = trend(points)
    assert fitted is not None
    assert fitted.slope == 0


def test_two_windows_have_no_slope() -> None:
    assert trend([(0.0, 1.0), (31.0, 2.0)]) is None
    assert trend([]) is None
    assert medians([(0.0, 1.0), (5.0, 9.0), (10.0, 2.0), (31.0, 3.0)]) == [(5.0, 2.0), (31.0, 3.0)]


@pytest.mark.parametrize(("minutes", "left"), [(30, 24), (10, 7), (4, 2 + 2 / 3)])
def test_the_warm_up_is_a_fifth_or_three_minutes_and_a_third_at_most(minutes: float, left: float) -> None:
    points = [(float(at), 0.0) for at in range(100, 101 + int(minutes * 60))]
    assert span(warm(points)) == pytest.approx(left * 60, abs=1)
    assert warm([]) == []


def test_a_rise_compares_the_thirds() -> None:
    points = [(float(at), float(at // 10)) for at in range(91)]
    assert thirds(points) == ([float(at // 10) for at in range(31)], [float(at // 10) for at in range(60, 91)])
    assert rise(points) == 6
    assert rise([]) == 0


def figures(private: Series, **counts: float) -> dict[str, Series]:
    """Return a process's series; `counts` are the increases from the beginning to the end."""
    flat = {name: [(at, 9.0) for at, _ in private] for name in ("fds", "tasks", "threads")}
    grown = {name: [(at, 9 + more * at / private[-1][0]) for at, _ in private] for name, more in counts.items()}
    return {"private": private, "rss": private, **flat, **grown}


def test_only_a_process_that_grows_is_judged_to_grow() -> None:
    assert judge("s1", 1, figures(series(0.3, minutes=30))).verdict == "flat"
    grown = judge("s1", 1, figures(series(2.0, minutes=30)))
    assert grown.verdict == "GROWS"
    assert "s1 (1) grows +" in grown.complaints[0]


def test_third_party_servers_may_grow_more() -> None:
    assert judge("etcd", 0, figures(series(5.0, minutes=30))).verdict == "flat"
    assert judge("etcd", 0, figures(series(15.0, minutes=30))).verdict == "GROWS"


@pytest.mark.parametrize("what", ["fds", "tasks", "threads"])
def test_a_count_that_rises_is_a_leak(what: str) -> None:
    assert judge("w1", 1, figures(series(0.0), **{what: 3.0})).verdict == "flat"
    leak = judge("w1", 1, figures(series(0.0), **{what: 20.0}))
    assert leak.verdict == "GROWS"
    assert what in leak.complaints[0]


def test_a_short_lived_process_is_shown_and_not_judged() -> None:
    judgement = judge("w2", 1, figures(series(50.0, minutes=9), fds=100.0))
    assert span(warm(series(0, minutes=9))) < JUDGEABLE
    assert judgement.verdict == "too short to judge"
    assert judgement.memory is not None


def test_the_stores_are_bounded_by_the_load_or_by_their_own_past() -> None:
    times = [float(at) for at in range(0, 1800, 5)]
    held = {
        "live jobs": [(at, 100.0) for at in times],
        "dead rows": [(at, 100.0 * at) for at in times],
        "jobs table, MB": [(at, 30.0) for at in times],
        "finished": [(at, 1000.0 * at) for at in times],
    }

    def broken(**changed: Series) -> list[str]:
        results = bounds({**held, **changed}, rate=100, maximum=200, slots=60, members=5, starts=9)
        return [b.name for b in results if not b.kept]

    assert broken() == ["dead rows"]
    assert broken(**{"live jobs": [(at, 3 * at) for at in times]}) == ["live jobs", "dead rows"]
    assert broken(**{"dead rows": [(at, at % 60) for at in times]}) == []
