"""Test the recording of a run on a real PostgreSQL: the checker finds nothing, and finds tampering."""

from __future__ import annotations

from pathlib import Path

import msgspec
import psycopg
import pytest

from taskd.dev.servers.postgres import PostgresServer
from taskd.domain.outcome import Completed, Crashed, Failed, Outcome, Released
from taskd.domain.policy import Backoff
from taskd.domain.retry import decide
from taskd.domain.schedule import Plan
from taskd.domain.schedule import decide as decide_ticks
from taskd.domain.ticks import TickRule
from taskd.seams import Settlement
from taskd.store.claims import PostgresClaims
from taskd.store.lane import ONE_PLAN, Lane
from taskd.store.migrations import apply_audit
from taskd.torture import recording
from taskd.torture.checker import check
from taskd.torture.history import History, Meta, ProgressEvent, record
from tests.integration.storage import AGEING, DONE, Storage, spec

NO_WAIT = Backoff(initial=0.0, factor=1.0, max=0.0, jitter=False)


@pytest.fixture
def store(audited_store: Storage) -> Storage:
    return audited_store


async def live(store: Storage) -> None:
    """Run sixty jobs with every outcome in several rounds, on lanes with a worker's names."""
    lane = Lane(store.dsn, name="taskd:settle:worker-1", deadline=5.0, options=ONE_PLAN)
    settling = PostgresClaims(lane, lane)
    term = await store.lead()
    await store.submit(*(spec(priority=n, retry_backoff=NO_WAIT, dedupe_key=f"k{n}", max_retries=1) for n in range(60)))
    session = await store.work()
    outcomes: tuple[Outcome, ...] = (DONE, Failed("no"), Released("shutdown"), Crashed("killed"), DONE)
    for _ in range(5):
        dispatches = await store.dispatch(term, jobs=7)
        await store.due.reoffer(term, dispatches[::5])
        claims = await store.claim(session, dispatches)
        chosen = [(c, outcomes[(c.job_id + c.attempt) % 5]) for c in claims]
        await settling.settle([Settlement(c, o, decide(o, c.policy, c.record)) for c, o in chosen])
        await store.sessions.heartbeat(session, 30.0, [])
    await store.claim(session, await store.dispatch(term, jobs=3))
    await store.sessions.end(session.id)
    await store.upkeep.free_jobs(term, lone_loss_limit=3)
    await store.terms.resign(term)
    await lane.close()


def dump(store: Storage, folder: Path, tampering: str = "") -> History:
    folder.mkdir(exist_ok=True)
    if tampering:
        with psycopg.connect(store.dsn, autocommit=True) as connection:
            connection.execute(tampering.encode())
    (folder / "meta.json").write_bytes(msgspec.json.encode(Meta(ageing=AGEING)))
    record(store.dsn, folder)
    return History.load(folder)


@pytest.mark.parametrize("batch", [7, 5000])
async def test_a_real_run_is_recorded_and_clean(
    store: Storage, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_BATCH", batch)  # psycopg 3.3.0 ended after the first batch of a cursor
    await live(store)
    history = dump(store, tmp_path)
    assert check(history) == []
    assert {row.id for row in history.jobs} == set(history.events_of)
    assert {e.move for e in history.events} > {("running", "completed"), ("queued", "pending"), ("running", "pending")}
    assert [t.what for t in history.terms] == ["takeover", "resign"]
    assert [s.what for s in history.sessions] == ["open", *["renew"] * 5, "end"]
    assert all(e.committed is None for e in history.events)  # this server does not store commit timestamps


@pytest.mark.parametrize(
    ("tampering", "invariant"),
    [
        ("DELETE FROM taskd.jobs WHERE id = (SELECT min(id) FROM taskd.jobs)", "I2"),
        ("UPDATE taskd.jobs SET attempt = attempt + 1", "I4"),
        ("DELETE FROM taskd.job_events WHERE version = 2", "I2"),
        ("UPDATE taskd.leader SET epoch = epoch + 2, holder = gen_random_uuid()", "I7"),
        ("UPDATE taskd.sessions SET expires_at = clock_timestamp()", "I15"),
        ("UPDATE taskd.job_events SET by = 'taskd:settle:worker-2' WHERE to_status = 'completed'", "I5"),
        ("UPDATE taskd.jobs SET dedupe_key = 'k59'", "I10"),
    ],
)
async def test_tampering_shows(store: Storage, tmp_path: Path, tampering: str, invariant: str) -> None:
    await live(store)
    violated = {v.invariant for v in check(dump(store, tmp_path, tampering))}
    assert invariant in violated


async def test_schedules_their_ticks_and_progress_are_recorded(store: Storage, tmp_path: Path) -> None:
    term = await store.lead()
    plan = Plan(name="pulse", rule=TickRule(every=3600.0), job=spec())
    await store.schedules.put(plan, replace=False)
    await store.raw.fetch(
        "UPDATE taskd.schedules SET anchor = anchor - interval '3601 s', created_at = anchor - interval '10 s',"
        " decided_until = anchor - interval '10 s' RETURNING 1"
    )
    look = await store.ticks.due(10, ())
    assert (await store.ticks.fire(term, [decide_ticks(due, look.now) for due in look.due])).jobs == 1
    await store.submit(spec(dedupe_key="child", parent_id=1))
    session = await store.work()
    claims = await store.claim(session, await store.dispatch(term))
    lane = Lane(store.dsn, name="taskd:settle:worker-1", deadline=5.0, options=ONE_PLAN)
    progress = b'{"attempt":1,"fraction":0.25,"message":"a quarter"}'
    ends = [Settlement(c, DONE, decide(DONE, c.policy, c.record), noted=True, progress=progress) for c in claims]
    await PostgresClaims(lane, lane).settle(ends)
    await lane.close()

    history = dump(store, tmp_path)
    assert check(history) == []
    (fire,) = history.fires
    (schedule,) = history.schedules
    row = history.row_of[fire.job_id or 0]
    assert (schedule.name, schedule.every, schedule.overlap, schedule.unchanged) == ("pulse", 3600.0, "allow", True)
    assert (row.schedule, row.tick) == ("pulse", fire.fire_at)
    assert fire.fire_at == pytest.approx(schedule.anchor + 3600)
    assert [r.parent_id for r in history.jobs if r.dedupe_key == "child"] == [1]
    assert {r.progress for r in history.jobs} == {ProgressEvent(1, 0.25, "a quarter")}

    tampered = dump(store, tmp_path, "DELETE FROM taskd.fires")
    assert {(v.invariant, v.job_id) for v in check(tampered)} == {("I16", None), ("I16", row.id)}


async def test_results_with_line_breaks_stay_on_one_line(store: Storage, tmp_path: Path) -> None:
    term = await store.lead()
    await store.submit(spec())
    claims = await store.claim(await store.work(), await store.dispatch(term))
    result = msgspec.Raw(b'{"a":\r\n "b\\nc"}')
    await store.settle(claims, Completed(result))
    dump(store, tmp_path)
    (line,) = (tmp_path / "jobs.ndjson").read_text().splitlines()
    assert msgspec.json.decode(line)["result"] == {"a": "b\nc"}


async def test_commit_times_are_recorded_where_the_server_keeps_them(
    private_postgres: PostgresServer, tmp_path: Path
) -> None:
    with psycopg.connect(private_postgres.dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    private_postgres.stop()
    private_postgres.start()
    apply_audit(private_postgres.dsn)
    store = Storage(private_postgres.dsn)
    await live(store)
    await store.close()
    history = dump(store, tmp_path)
    assert all(e.committed is not None and e.statement_at <= e.at <= e.committed for e in history.events)
    assert check(history) == []
