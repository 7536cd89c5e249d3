"""Test that the checker finds nothing in a correct run, whatever faults the run had."""

from __future__ import annotations

from taskd.torture.checker import INVARIANTS, examine
from taskd.torture.history import ProgressEvent, RedisLeft
from tests.unit.histories import HistoryBuilder


def eventful() -> HistoryBuilder:
    """Return a run with retries, releases, losses, cancels, unknown answers, takeovers and a SIGTERM: all of them correct."""
    history = HistoryBuilder()
    history.whole(0.0, 1)
    # 2 fails once, and is tried again after its backoff of 2 s.
    history.submit(0.0, 2)
    history.dispatch(0.1, 2)
    history.claim(0.2, 2)
    history.run(0.3, 0.6, 2, ends=False)
    history.write_output(0.65, 2)
    history.settle(0.7, 2, "pending", failures=1, schedule_at=1_000_002.701)
    history.dispatch(2.8, 2)
    history.claim(2.9, 2)
    history.run(3.0, 3.1, 2, 2)
    history.settle(3.2, 2)
    # 3 is dispatched again, and its client did not get the first answer; it loses its worker and completes elsewhere.
    history.step(0.0, "invoke", key="k3")
    history.store(0.5, 3)
    history.step(1.0, "unknown", key="k3", reason="timeout")
    history.step(1.1, "invoke", key="k3")
    history.step(1.2, "ok", key="k3", id=3, duplicate=True)
    history.dispatch(1.3, 3)
    history.move(4.0, 3, "pending", by="taskd:leader:L1")
    history.dispatch(4.1, 3)
    history.open(0.0, "s2", "w2")
    history.claim(4.2, 3, session="s2", worker="w2")
    history.run(4.3, 14.0, 3, ends=False)
    history.fault(14.2, "SIGKILL", "w2", pid=7)
    history.end(15.5, "s2", "w2")
    history.move(15.6, 3, "pending", by="taskd:leader:L1", losses=1)
    history.dispatch(15.7, 3)
    history.claim(15.8, 3)
    history.run(15.9, 16.0, 3, 3 - 1)
    history.settle(16.1, 3)
    # 4 is cancelled while it runs, 5 before; 6 was refused; 7 never got an answer.
    history.submit(0.0, 4)
    history.dispatch(0.1, 4)
    history.claim(0.2, 4)
    history.run(0.3, 5.0, 4, ends=False)
    history.step(2.0, "cancel", id=4)
    history.move(2.1, 4, "cancelled", by="taskd:intake:s1", session_id="s1", worker_id="w1")
    history.step(2.2, "cancel_ok", id=4, status="cancelled")
    history.submit(0.0, 5, due=100.0)
    history.move(1.0, 5, "cancelled", by="taskd:intake:s1")
    history.step(1.1, "cancel_ok", id=5, status="cancelled")
    history.step(3.0, "cancel_late", id=1, status="completed")
    history.step(0.0, "invoke", key="k6")
    history.step(0.1, "fail", key="k6", status=422)
    history.step(0.0, "invoke", key="k7")
    # A takeover, and a lock that two jobs hold in turn.
    history.resign(20.0, 1, "L1")
    history.takeover(20.5, 2, "L2")
    history.submit(21.0, 8)
    history.submit(21.0, 9)
    history.dispatch(21.2, 8, 9, by="L2")
    for job, at in ((8, 21.3), (9, 22.3)):
        history.claim(at, job)
        history.sign(at + 0.1, job, 1, "start")
        history.sign(at + 0.2, job, 1, "lock", "till", str(job))
        history.sign(at + 0.3, job, 1, "held", "till", str(job))
        history.sign(at + 0.4, job, 1, "unlock", "till", str(job))
        history.sign(at + 0.5, job, 1, "end")
        history.settle(at + 0.6, job)
    # A worker leaves in order and gives its job back at no cost.
    history.submit(30.0, 10)
    history.dispatch(30.1, 10, by="L2")
    history.open(29.0, "s3", "w3")
    history.claim(30.2, 10, session="s3", worker="w3")
    history.run(30.3, 35.0, 10, ends=False)
    history.fault(31.0, "SIGTERM", "w3", pid=9)
    history.settle(35.2, 10, "pending", worker="w3")
    history.end(35.3, "s3", "w3", by="taskd:session:w3")
    history.fault(35.4, "exit", "w3", pid=9, status=0)
    history.dispatch(35.5, 10, by="L2")
    history.claim(35.6, 10)
    history.run(35.7, 35.8, 10, 2)
    history.settle(35.9, 10)
    # A schedule for each second; and one whose jobs may not overlap: 14 delayed the tick of 15.
    history.schedule(until=3.4)
    for tick, job in ((1.0, 11), (2.0, 12), (3.0, 13)):
        history.fired(tick, job)
    history.schedule("shy", until=4.4, overlap="queue", revision=2, paused_at=1_000_004.5)
    history.fired(1.0, 14, name="shy", lasts=2.2)
    history.fire(2.0, 15, at=3.3, name="shy")
    history.dispatch(3.4, 15)
    history.claim(3.5, 15)
    history.run(3.6, 4.1, 15)
    history.settle(4.2, 15)
    history.fire(3.0, None, state="skipped", name="shy")
    history.fire(4.0, None, state="waiting", name="shy")
    # 16 stores checkpoints, fails, goes on, snoozes, and submits 17.
    history.submit(21.0, 16)
    history.limits[16] = {"progress": ProgressEvent(3, 1.0)}
    for attempt, at, steps in ((1, 21.0, (1, 2)), (2, 25.0, (3,)), (3, 29.0, (4,))):
        history.dispatch(at + 0.1, 16, by="L2")
        history.claim(at + 0.2, 16)
        history.sign(at + 0.3, 16, attempt, "start")
        history.sign(at + 0.3, 16, attempt, "resume", *(str(n) for n in ((0, 0), (1, 2), (2, 3))[attempt - 1]))
        for step in steps:
            history.sign(at + 0.4, 16, attempt, "save", str(step))
            history.sign(at + 0.5, 16, attempt, "saved", str(step))
            history.sign(at + 0.5, 16, attempt, "told", str(step / 4))
        if attempt == 1:
            history.settle(at + 0.7, 16, "pending", failures=1, schedule_at=1_000_024.0)
        elif attempt == 2:
            history.sign(at + 0.6, 16, attempt, "snooze", "2.0")
            history.settle(at + 0.7, 16, "pending", schedule_at=1_000_028.0)
    history.store(29.55, 17, dedupe_key="child")
    history.limits[17] = {"parent_id": 16}
    history.sign(29.6, 16, 3, "child", "child", "17")
    history.sign(29.6, 16, 3, "end")
    history.settle(29.7, 16)
    history.dispatch(29.8, 17, by="L2")
    history.claim(29.9, 17)
    history.run(30.0, 30.1, 17)
    history.settle(30.2, 17)
    history.meta |= {"quiet": True, "redis": RedisLeft(0, 0)}
    return history


def test_an_eventful_run_breaks_nothing_and_every_invariant_is_looked_at() -> None:
    ledger = examine(eventful().build())
    assert ledger.violations == []
    assert [i for i in INVARIANTS if not ledger.examined[i]] == []


def test_an_empty_run_breaks_nothing_and_shows_nothing() -> None:
    history = HistoryBuilder()
    ledger = examine(history.build())
    assert ledger.violations == []
    assert not ledger.examined["I1"]
