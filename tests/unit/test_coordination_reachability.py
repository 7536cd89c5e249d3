from __future__ import annotations

from structlog.testing import capture_logs

from taskd.coordination.notifier import Notifier
from taskd.coordination.reachability import Reachability


def test_nothing_is_healthy_before_the_first_answer() -> None:
    pulse = Reachability(3.0, ["etcd:2379"], Notifier())
    before = pulse.health
    pulse.answered()
    assert (before.ok, before.detail) == (False, "etcd has not answered yet")
    assert (pulse.health.ok, pulse.health.detail) == (True, "")


def test_a_stall_shorter_than_the_patience_is_no_outage() -> None:
    pulse = Reachability(60.0, ["etcd:2379"], Notifier())
    pulse.answered()
    with capture_logs() as lines:
        pulse.unanswered("a slow disk")
    assert pulse.health.ok
    assert lines == []


def test_an_outage_is_one_line_and_its_end_another() -> None:
    pulse = Reachability(0.0, ["etcd:2379"], Notifier())
    with capture_logs() as lines:
        pulse.answered()
        for _ in range(10):
            pulse.unanswered("refused")
        pulse.answered()
        pulse.answered()
    assert [line["event"] for line in lines] == ["etcd is away; retrying", "etcd answers again"]


def test_the_first_unanswered_call_is_told_and_since_stays_the_start_of_the_outage() -> None:
    pulse = Reachability(3.0, ["etcd:2379"], Notifier())
    since = pulse.health.since
    with capture_logs() as lines:
        pulse.unanswered("refused")
        pulse.unanswered("timed out")
    assert len(lines) == 1
    assert pulse.health.since == since
    assert pulse.health.detail == "timed out"
