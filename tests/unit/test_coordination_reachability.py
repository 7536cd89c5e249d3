"""Tests of etcd's reachability: outages, stalls and their log lines."""

from __future__ import annotations

from structlog.testing import capture_logs

from taskd.coordination.notifier import Notifier
from taskd.coordination.reachability import Reachability


def test_nothing_is_healthy_before_the_first_answer() -> None:
    reachability = Reachability(3.0, ["etcd:2379"], Notifier())
    before = reachability.health
    reachability.answered()
    assert (before.ok, before.detail) == (False, "etcd has not answered yet")
    assert (reachability.health.ok, reachability.health.detail) == (True, "")


def test_a_stall_shorter_than_the_patience_is_no_outage() -> None:
    reachability = Reachability(60.0, ["etcd:2379"], Notifier())
    reachability.answered()
    with capture_logs() as lines:
        reachability.unanswered("a slow disk")
    assert reachability.health.ok
    assert lines == []


def test_an_outage_is_one_line_and_its_end_another() -> None:
    reachability = Reachability(0.0, ["etcd:2379"], Notifier())
    with capture_logs() as lines:
        reachability.answered()
        for _ in range(10):
            reachability.unanswered("refused")
        reachability.answered()
        reachability.answered()
    assert [line["event"] for line in lines] == ["etcd is away; retrying", "etcd answers again"]


def test_the_first_unanswered_call_is_logged_and_since_stays_the_start_of_the_outage() -> None:
    reachability = Reachability(3.0, ["etcd:2379"], Notifier())
    since = reachability.health.since
    with capture_logs() as lines:
        reachability.unanswered("refused")
        reachability.unanswered("timed out")
    assert len(lines) == 1
    assert reachability.health.since == since
    assert reachability.health.detail == "timed out"
