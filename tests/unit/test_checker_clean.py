"""A correct run is not blamed, whatever faults it lived through."""

from __future__ import annotations

from taskd.torture.checker import INVARIANTS, examine
from taskd.torture.history import ProgressEvent, RedisLeft
from tests.unit.histories import Story


def eventful() -> Story:
    """Everything that may rightly happen: retries, releases, losses, cancels, unknown answers, takeovers, a SIGTERM."""
    story = Story()
    story.whole(0.0, 1)
    # 2 fails once, and is tried again after its backoff of 2 s.
    story.submit(0.0, 2)
    story.dispatch(0.1, 2)
    story.claim(0.2, 2)
    story.run(0.3, 0.6, 2, ends=False)
    story.say(0.65, 2)
    story.settle(0.7, 2, "pending", failures=1, schedule_at=1_000_002.701)
    story.dispatch(2.8, 2)
    story.claim(2.9, 2)
    story.run(3.0, 3.1, 2, 2)
    story.settle(3.2, 2)
    # 3 is rung again, its client did not hear the first answer; it loses its worker and then completes elsewhere.
    story.step(0.0, "invoke", key="k3")
    story.store(0.5, 3)
    story.step(1.0, "unknown", key="k3", reason="timeout")
    story.step(1.1, "invoke", key="k3")
    story.step(1.2, "ok", key="k3", id=3, duplicate=True)
    story.dispatch(1.3, 3)
    story.move(4.0, 3, "pending", by="taskd:leader:L1")
    story.dispatch(4.1, 3)
    story.open(0.0, "s2", "w2")
    story.claim(4.2, 3, session="s2", worker="w2")
    story.run(4.3, 14.0, 3, ends=False)
    story.fault(14.2, "SIGKILL", "w2", pid=7)
    story.end(15.5, "s2", "w2")
    story.move(15.6, 3, "pending", by="taskd:leader:L1", losses=1)
    story.dispatch(15.7, 3)
    story.claim(15.8, 3)
    story.run(15.9, 16.0, 3, 3 - 1)
    story.settle(16.1, 3)
    # 4 is cancelled while it runs, 5 before; 6 was refused; 7 was never heard of again.
    story.submit(0.0, 4)
    story.dispatch(0.1, 4)
    story.claim(0.2, 4)
    story.run(0.3, 5.0, 4, ends=False)
    story.step(2.0, "cancel", id=4)
    story.move(2.1, 4, "cancelled", by="taskd:intake:s1", session_id="s1", worker_id="w1")
    story.step(2.2, "cancel_ok", id=4, status="cancelled")
    story.submit(0.0, 5, due=100.0)
    story.move(1.0, 5, "cancelled", by="taskd:intake:s1")
    story.step(1.1, "cancel_ok", id=5, status="cancelled")
    story.step(3.0, "cancel_late", id=1, status="completed")
    story.step(0.0, "invoke", key="k6")
    story.step(0.1, "fail", key="k6", status=422)
    story.step(0.0, "invoke", key="k7")
    # A takeover, and a lock that goes from hand to hand.
    story.resign(20.0, 1, "L1")
    story.takeover(20.5, 2, "L2")
    story.submit(21.0, 8)
    story.submit(21.0, 9)
    story.dispatch(21.2, 8, 9, by="L2")
    for job, at in ((8, 21.3), (9, 22.3)):
        story.claim(at, job)
        story.sign(at + 0.1, job, 1, "start")
        story.sign(at + 0.2, job, 1, "lock", "till", str(job))
        story.sign(at + 0.3, job, 1, "held", "till", str(job))
        story.sign(at + 0.4, job, 1, "unlock", "till", str(job))
        story.sign(at + 0.5, job, 1, "end")
        story.settle(at + 0.6, job)
    # A worker leaves in order and gives its job back at no cost.
    story.submit(30.0, 10)
    story.dispatch(30.1, 10, by="L2")
    story.open(29.0, "s3", "w3")
    story.claim(30.2, 10, session="s3", worker="w3")
    story.run(30.3, 35.0, 10, ends=False)
    story.fault(31.0, "SIGTERM", "w3", pid=9)
    story.settle(35.2, 10, "pending", worker="w3")
    story.end(35.3, "s3", "w3", by="taskd:session:w3")
    story.fault(35.4, "exit", "w3", pid=9, status=0)
    story.dispatch(35.5, 10, by="L2")
    story.claim(35.6, 10)
    story.run(35.7, 35.8, 10, 2)
    story.settle(35.9, 10)
    # A schedule for each second; and one whose jobs may not overlap: 14 stood in the way of a tick, 15 was waited for.
    story.schedule(until=3.4)
    for tick, job in ((1.0, 11), (2.0, 12), (3.0, 13)):
        story.fired(tick, job)
    story.schedule("shy", until=4.4, overlap="queue", revision=2, paused_at=1_000_004.5)
    story.fired(1.0, 14, name="shy", lasts=2.2)
    story.fire(2.0, 15, at=3.3, name="shy")
    story.dispatch(3.4, 15)
    story.claim(3.5, 15)
    story.run(3.6, 4.1, 15)
    story.settle(4.2, 15)
    story.fire(3.0, None, state="skipped", name="shy")
    story.fire(4.0, None, state="waiting", name="shy")
    # 16 stores checkpoints, fails, goes on, snoozes, and submits 17.
    story.submit(21.0, 16)
    story.limits[16] = {"progress": ProgressEvent(3, 1.0)}
    for attempt, at, steps in ((1, 21.0, (1, 2)), (2, 25.0, (3,)), (3, 29.0, (4,))):
        story.dispatch(at + 0.1, 16, by="L2")
        story.claim(at + 0.2, 16)
        story.sign(at + 0.3, 16, attempt, "start")
        story.sign(at + 0.3, 16, attempt, "resume", *(str(n) for n in ((0, 0), (1, 2), (2, 3))[attempt - 1]))
        for step in steps:
            story.sign(at + 0.4, 16, attempt, "save", str(step))
            story.sign(at + 0.5, 16, attempt, "saved", str(step))
            story.sign(at + 0.5, 16, attempt, "told", str(step / 4))
        if attempt == 1:
            story.settle(at + 0.7, 16, "pending", failures=1, schedule_at=1_000_024.0)
        elif attempt == 2:
            story.sign(at + 0.6, 16, attempt, "snooze", "2.0")
            story.settle(at + 0.7, 16, "pending", schedule_at=1_000_028.0)
    story.store(29.55, 17, dedupe_key="child")
    story.limits[17] = {"parent_id": 16}
    story.sign(29.6, 16, 3, "child", "child", "17")
    story.sign(29.6, 16, 3, "end")
    story.settle(29.7, 16)
    story.dispatch(29.8, 17, by="L2")
    story.claim(29.9, 17)
    story.run(30.0, 30.1, 17)
    story.settle(30.2, 17)
    story.meta |= {"quiet": True, "redis": RedisLeft(0, 0)}
    return story


def test_an_eventful_run_breaks_nothing_and_every_invariant_is_looked_at() -> None:
    ledger = examine(eventful().history())
    assert ledger.violations == []
    assert [i for i in INVARIANTS if not ledger.examined[i]] == []


def test_an_empty_run_breaks_nothing_and_shows_nothing() -> None:
    story = Story()
    ledger = examine(story.history())
    assert ledger.violations == []
    assert not ledger.examined["I1"]
