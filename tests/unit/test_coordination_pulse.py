from __future__ import annotations

from structlog.testing import capture_logs

from taskd.coordination.bell import Bell
from taskd.coordination.pulse import Pulse


def test_nothing_is_healthy_before_the_first_answer() -> None:
    pulse = Pulse(3.0, ["etcd:2379"], Bell())
    before = pulse.health
    pulse.answered()
    assert (before.ok, before.detail) == (False, "etcd has not answered yet")
    assert (pulse.health.ok, pulse.health.detail) == (True, "")


def test_a_stall_shorter_than_the_patience_is_no_outage() -> None:
    pulse = Pulse(60.0, ["etcd:2379"], Bell())
    pulse.answered()
    with capture_logs() as lines:
        pulse.unanswered("a slow disk")
    assert pulse.health.ok
    assert lines == []


def test_an_outage_is_one_line_and_its_end_another() -> None:
    pulse = Pulse(0.0, ["etcd:2379"], Bell())
    with capture_logs() as lines:
        pulse.answered()
        for _ in range(10):
            pulse.unanswered("refused")
        pulse.answered()
        pulse.answered()
    assert [line["event"] for line in lines] == ["etcd is away; trying on", "etcd answers again"]


def test_the_first_unanswered_call_is_told_and_since_stays_the_start_of_the_outage() -> None:
    pulse = Pulse(3.0, ["etcd:2379"], Bell())
    since = pulse.health.since
    with capture_logs() as lines:
        pulse.unanswered("refused")
        pulse.unanswered("timed out")
    assert len(lines) == 1
    assert pulse.health.since == since
    assert pulse.health.detail == "timed out"
