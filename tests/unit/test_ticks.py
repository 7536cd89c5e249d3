"""Tests of the ticks of cron expressions, also where clocks change, and of intervals."""

from __future__ import annotations

import functools
import random
from datetime import UTC, datetime, time, timedelta
from itertools import islice, takewhile
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim

from taskd.domain.cron import change
from taskd.domain.ticks import TickRule, check_cron, zone

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def local(rule: TickRule, moment: str, count: int) -> list[str]:
    """Return the next ticks as the clock of the zone shows them."""
    ticks = islice(rule.after(at(moment), ANCHOR), count)
    return [tick.astimezone(zone(rule.tz)).strftime("%d %H:%M:%S").removesuffix(":00") for tick in ticks]


def utc(rule: TickRule, moment: str, until: str) -> list[str]:
    end = at(until)
    return [f"{tick:%d %H:%M}" for tick in takewhile(lambda tick: tick < end, rule.after(at(moment), ANCHOR))]


#: Expression, zone, start, and the next ticks on the clock of the zone.
PLAIN = [
    ("*/20 * * * *", "UTC", "2026-01-31T23:30Z", ["31 23:40", "01 00:00", "01 00:20"]),
    ("0 6 * * MON-FRI", "UTC", "2026-01-02T07:00Z", ["05 06:00", "06 06:00", "07 06:00"]),
    ("0 0 1 JAN,jul *", "UTC", "2026-01-01T00:00Z", ["01 00:00", "01 00:00"]),
    ("0 0 31 * *", "UTC", "2026-01-31T00:00Z", ["31 00:00", "31 00:00", "31 00:00"]),
    ("0 0 L * *", "UTC", "2026-01-31T00:00Z", ["28 00:00", "31 00:00", "30 00:00"]),
    ("0 0 LW * *", "UTC", "2026-01-30T00:00Z", ["27 00:00", "31 00:00"]),
    ("0 9 * * MON#1", "UTC", "2026-01-05T09:00Z", ["02 09:00", "02 09:00", "06 09:00"]),
    ("0 9 * * 5L", "UTC", "2026-01-30T09:00Z", ["27 09:00", "27 09:00"]),
    ("0 0 1 * MON", "UTC", "2026-02-27T00:00Z", ["01 00:00", "02 00:00", "09 00:00"]),
    ("*/20 * * * * *", "UTC", "2026-01-01T00:00:39.5Z", ["01 00:00:40", "01 00:01", "01 00:01:20"]),
    ("30 0 12 * * 7", "UTC", "2026-01-01T00:00Z", ["04 12:00:30", "11 12:00:30"]),
    ("0 8 * * *", "Asia/Kathmandu", "2026-01-01T00:00Z", ["01 08:00", "02 08:00"]),
]


@pytest.mark.parametrize(("cron", "tz", "moment", "expected"), PLAIN)
def test_ticks_of_plain_days(cron: str, tz: str, moment: str, expected: list[str]) -> None:
    assert local(TickRule(cron=cron, tz=tz), moment, len(expected)) == expected


def test_leap_days_are_waited_for() -> None:
    ticks = islice(TickRule(cron="0 0 29 FEB *").after(at("2026-01-01T00:00Z"), ANCHOR), 3)
    assert [tick.year for tick in ticks] == [2028, 2032, 2036]


#: Expression, zone, start, end, and the ticks in UTC.
CHANGES = [
    # Berlin: on 29 March 02:00 +01 becomes 03:00 +02; on 25 October 03:00 +02 becomes 02:00 +01.
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00Z", "2026-03-31T00:00Z", ["28 01:30", "29 01:00", "30 00:30"]),
    ("0,30 2 * * *", "Europe/Berlin", "2026-03-29T00:00Z", "2026-03-29T12:00Z", ["29 01:00"]),
    ("0 30 2 * * *", "Europe/Berlin", "2026-03-29T00:00Z", "2026-03-30T12:00Z", ["29 01:00", "30 00:30"]),
    ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00Z", "2026-03-30T12:00Z", ["29 01:00", "30 01:00"]),
    ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15Z", "2026-03-29T02:00Z", ["29 00:30", "29 01:00", "29 01:30"]),
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", "2026-10-26T12:00Z", ["25 00:30", "26 01:30"]),
    ("0 30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", "2026-10-26T12:00Z", ["25 00:30", "26 01:30"]),
    ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10Z", "2026-10-26T12:00Z", ["26 01:30"]),  # in the repeated hour
    ("30 * * * *", "Europe/Berlin", "2026-10-24T23:45Z", "2026-10-25T03:00Z", ["25 00:30", "25 01:30", "25 02:30"]),
    # Sydney, the other way round: on 4 October 02:00 +10 becomes 03:00 +11; on 5 April 03:00 +11 becomes 02:00 +10.
    ("30 2 * * *", "Australia/Sydney", "2026-10-02T20:00Z", "2026-10-05T00:00Z", ["03 16:00", "04 15:30"]),
    ("30 2 * * *", "Australia/Sydney", "2026-04-03T20:00Z", "2026-04-06T00:00Z", ["04 15:30", "05 16:30"]),
    # Lord Howe, by half an hour: on 4 October 02:00 +10:30 becomes 02:30 +11; on 5 April 02:00 +11 becomes 01:30 +10:30.
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00Z", "2026-10-05T00:00Z", ["03 15:30", "04 15:15"]),
    (
        "*/30 2,3 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T12:00Z",
        "2026-10-04T12:00Z",
        ["03 15:30", "03 16:00", "03 16:30"],
    ),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T20:00Z", "2026-04-06T00:00Z", ["04 14:45", "05 15:15"]),
    (
        "45 * * * *",
        "Australia/Lord_Howe",
        "2026-04-04T14:00Z",
        "2026-04-04T17:00Z",
        ["04 14:45", "04 15:15", "04 16:15"],
    ),
    # Santiago, at midnight: on 6 September 00:00 -04 becomes 01:00 -03; on 5 April 00:00 -03 becomes 23:00 -04.
    ("0 0 * * *", "America/Santiago", "2026-09-05T12:00Z", "2026-09-07T12:00Z", ["06 04:00", "07 03:00"]),
    ("30 23 * * *", "America/Santiago", "2026-04-04T12:00Z", "2026-04-06T12:00Z", ["05 02:30", "06 03:30"]),
]


@pytest.mark.parametrize(("cron", "tz", "since", "until", "expected"), CHANGES)
def test_ticks_where_clocks_change(cron: str, tz: str, since: str, until: str, expected: list[str]) -> None:
    assert utc(TickRule(cron=cron, tz=tz), since, until) == expected


#: Expressions with a fixed time, for each kind of change: Chatham, Lord Howe and Troll change off the hour or by odd amounts.
FIXED = [
    "30 2 * * *",
    "0,15,45 2,3 * * *",
    "0 0 * * *",
    "30 30 2 * * *",
    "59 59 23 * * *",
    "5-55/10 1-3 * * *",
    "45 3 * * *",
]
WILD = ["*/5 3 * * *", "* 2 * * *", "*/15 * * * *", "30 * * * *", "0 */3 * * *", "10 */15 2,3 * * *", "* 0,23 * * SUN"]


@functools.cache
def changes() -> list[tuple[str, datetime]]:
    """Return zone and instant of each kind of change within ten years: by its offsets and the time on the clock."""
    kinds: dict[tuple[Any, ...], tuple[str, datetime]] = {}
    days = [datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=5 * n) for n in range(731)]
    for name in sorted(available_timezones()):
        where = ZoneInfo(name)
        offsets = [day.astimezone(where).utcoffset() for day in days]
        for index in range(1, len(days)):
            if offsets[index] != offsets[index - 1]:
                moment = change(where, days[index - 1], days[index])
                assert moment is not None
                kind = (offsets[index - 1], offsets[index], (moment - timedelta(seconds=1)).astimezone(where).time())
                kinds.setdefault(kind, (name, moment))
    return list(kinds.values())


def oracle(cron: str, where: ZoneInfo, begin: datetime, seconds: int, step: int) -> list[datetime]:
    """Return the ticks by a look at every instant. A fixed time counts once, and at the end of a gap that skips it."""
    first = datetime.combine((begin - timedelta(days=2)).date(), time())
    naive = set(takewhile(lambda tick: tick < first + timedelta(days=5), CronSim(cron, first)))
    fixed = not any(part.startswith("*") for part in cron.split()[-5:-3])
    ticks = []
    for n in range(0, seconds, step):
        instant = begin + timedelta(seconds=n)
        wall = instant.astimezone(where)
        shown = wall.replace(tzinfo=None, fold=0)
        before = (instant - timedelta(seconds=1)).astimezone(where).replace(tzinfo=None) + timedelta(seconds=1)
        skipped = fixed and before < shown and any(before <= time < shown for time in naive)
        if (shown in naive and not (fixed and wall.fold)) or skipped:
            ticks.append(instant)
    return ticks


@pytest.mark.parametrize("cron", FIXED + WILD)
def test_ticks_are_those_that_a_look_at_every_instant_finds(cron: str) -> None:
    """The ticks around every kind of change of clocks that any zone has in ten years."""
    assert len(changes()) > 20
    step, hours = (1, 2) if len(cron.split()) == 6 else (60, 10)
    for name, moment in changes():
        begin, seconds = moment - timedelta(hours=hours / 2), hours * 3600
        ticks = []
        for tick in TickRule(cron=cron, tz=name).after(begin - timedelta(seconds=1), ANCHOR):
            if tick >= begin + timedelta(seconds=seconds):
                break
            ticks.append(tick)
        assert ticks == oracle(cron, ZoneInfo(name), begin, seconds, step), (name, moment)


def test_expressions_that_users_wrote() -> None:
    chatham = [f"{tick}" for tick in local(TickRule(cron="*/5 3 * * *", tz="Pacific/Chatham"), "2027-09-25T12:00Z", 4)]
    assert chatham == ["26 03:45", "26 03:50", "26 03:55", "27 03:00"]
    rule = TickRule(cron="* 2 * * *", tz="Pacific/Chatham")
    ticks = takewhile(lambda tick: tick < at("2027-04-04T00:00Z"), rule.after(at("2027-04-03T12:00Z"), ANCHOR))
    assert len(list(ticks)) == 60 + 15
    assert local(TickRule(cron="30 2-2/2 * * *"), "2026-01-01T00:00Z", 2) == ["01 02:30", "02 02:30"]
    assert utc(TickRule(cron="30 30 2 * * *", tz="Europe/Berlin"), "2026-03-29T00:00Z", "2026-03-29T12:00Z") == [
        "29 01:00"
    ]


def test_the_latest_ticks_reach_over_a_change_that_left_many_out() -> None:
    rule = TickRule(cron="* 2 * * *", tz="Europe/Berlin")
    latest = rule.latest(at("2026-01-01T00:00Z"), at("2026-03-29T12:00Z"), ANCHOR, 61)
    assert [f"{latest[0]:%d %H:%M}", f"{latest[-1]:%d %H:%M}"] == ["27 01:59", "28 01:59"]


#: Days in whose middle a clock changes.
DAYS = [
    ("Europe/Berlin", "2026-03-28T00:00Z"),
    ("Europe/Berlin", "2026-10-24T00:00Z"),
    ("America/Havana", "2026-03-07T00:00Z"),
    ("America/Havana", "2026-10-31T00:00Z"),
    ("America/Santiago", "2026-09-05T00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T00:00Z"),
]
EXPRESSIONS = [
    "30 2 * * *",
    "*/20 * * * *",
    "45 * * * *",
    "*/20 3 * * *",
    "*/20 0 * * *",
    "0 */3 * * *",
    "0 30 1 * * *",
]


@pytest.mark.parametrize(("tz", "day"), DAYS)
@pytest.mark.parametrize("cron", EXPRESSIONS)
def test_the_ticks_are_the_same_from_every_start(cron: str, tz: str, day: str) -> None:
    """The ticks depend neither on when a leader dies nor on how long the cluster has none."""
    draw, rule, begin = random.Random(7), TickRule(cron=cron, tz=tz), at(day)
    before, end = begin - timedelta(days=12), begin + timedelta(days=2)
    ticks = list(takewhile(lambda tick: tick <= end, rule.after(before, ANCHOR)))
    for _ in range(40):
        moment = begin + timedelta(seconds=draw.randrange(2 * 86_400))
        later = [tick for tick in ticks if tick > moment]
        assert not later or next(rule.after(moment, ANCHOR)) == later[0]
        assert rule.latest(before, moment, ANCHOR, 5) == [tick for tick in ticks if tick <= moment][-5:]


@pytest.mark.parametrize(("tz", "day"), DAYS)
def test_with_a_wildcard_the_clock_on_the_wall_counts(tz: str, day: str) -> None:
    begin = at(day)
    minutes = [begin + timedelta(minutes=n) for n in range(2 * 1440)]
    for cron, hours, wanted in (("*/20 3 * * *", {3}, {0, 20, 40}), ("45 * * * *", set(range(24)), {45})):
        shown = [(minute, minute.astimezone(ZoneInfo(tz))) for minute in minutes]
        expected = [minute for minute, wall in shown if wall.hour in hours and wall.minute in wanted]
        ticks = islice(TickRule(cron=cron, tz=tz).after(begin - timedelta(days=1, seconds=1), ANCHOR), 200)
        assert [tick for tick in ticks if begin <= tick <= minutes[-1]] == expected


@pytest.mark.parametrize("rule", [TickRule(cron="* * * * * *"), TickRule(every=1.0)], ids=["cron", "every"])
def test_the_latest_ticks_of_a_year_cost_no_more_than_they_are(rule: TickRule) -> None:
    now = at("2027-01-01T00:00:00.5Z")
    assert rule.latest(ANCHOR, now, ANCHOR, 3) == [at(f"2026-12-31T23:59:{s}Z") for s in (58, 59)] + [
        at("2027-01-01T00:00:00Z")
    ]


def test_an_interval_counts_from_its_anchor_and_does_not_drift() -> None:
    rule = TickRule(every=0.1 + 1)
    ticks = list(islice(rule.after(ANCHOR, ANCHOR), 100_000))
    assert ticks[-1] == ANCHOR + timedelta(seconds=110_000)
    assert next(rule.after(ticks[-1], ANCHOR)) - ticks[-1] == timedelta(seconds=1.1)
    assert next(rule.after(ANCHOR - timedelta(days=1), ANCHOR)) == ticks[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "61 * * * *",
        "* * * * FOO",
        "*/0 * * * *",
        "*/61 * * * *",
        "0 0-5/25 * * *",
        "0 0 99 2 *",
        "0 0 * 13 *",
        "* * * * * */9",
        "@daily",
        "\0",
    ],
)
def test_an_invalid_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no cron expression"):
        check_cron(text, UTC)


@pytest.mark.parametrize(
    ("text", "tz"),
    [
        ("0 0 31 2 *", "UTC"),
        ("0 0 31 FEB,APR,JUN *", "Europe/Berlin"),
        ("0 0 0 30 2 *", "UTC"),
        ("0 0 */31 * SUN#2", "UTC"),  # the second Sunday is never the first
        ("*/30 2 * 3 0L", "Europe/Berlin"),  # the hour that each spring leaves out
    ],
)
def test_an_expression_that_never_fires_is_refused(text: str, tz: str) -> None:
    with pytest.raises(ValueError, match="never fires"):
        check_cron(text, zone(tz))


def test_an_expression_that_another_version_took_is_refused_too() -> None:
    rule = TickRule(cron="0 0 31W * *")
    with pytest.raises(ValueError, match=r"is no cron expression \(bad day-of-month\)"):
        next(rule.after(ANCHOR, ANCHOR))


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "\0", "Europe"])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no time zone"):
        zone(name)
