"""Tests of discarded values in Redis and etcd: all are counted, and they are logged at a bounded rate."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from taskd.runtime import discards, meters
from taskd.runtime.discards import Discards, shown


def counted() -> float:
    return float(meters.DISCARDED.labels("redis", "tests")._value.get())


def test_each_value_is_counted_and_a_key_is_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    before, discards_ = counted(), Discards()
    with capture_logs() as lines:
        for _ in range(10):
            discards_.note("redis", "tests", "key", 2)
        discards_.note("redis", "tests", "other")
        now += discards.EVERY
        discards_.note("redis", "tests", "key")
    assert counted() == before + 22
    assert [(line["key"], line["values"]) for line in lines] == [("key", 2), ("other", 1), ("key", 19)]


def test_any_number_of_keys_makes_a_bounded_number_of_lines() -> None:
    discards_ = Discards()
    with capture_logs() as lines:
        for number in range(3 * discards.KINDS):
            discards_.note("redis", "tests", f"key-{number}")
    assert len(lines) <= discards.KINDS + 1


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_foreign_text_is_shown_in_printable_ascii(text: str) -> None:
    printable = shown(text)
    assert printable.isascii()
    assert printable.isprintable()
    assert len(printable) <= discards.SHOWN
