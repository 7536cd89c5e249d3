"""A task's own transaction on a real PostgreSQL: what it commits, what it does not, and how it finds out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest

from taskd.domain.claim import Claim, Session, Term
from taskd.domain.errors import ClaimLost, StoreUnavailable
from taskd.domain.retry import decide
from taskd.seams import Settlement
from taskd.store import transactions
from taskd.store.desk import Desk, SyncTaskConnection, TaskConnection
from taskd.store.migrations import apply_audit
from taskd.store.statements import statement
from taskd.store.transactions import Transaction
from tests.integration.storage import DONE, Storage, spec
from tests.servers import wait_until_async

ROWS = "SELECT count(*) FROM rows"


class Told:
    """How the attempt ends, and whether that was recorded."""

    result, progress = bytes(DONE.result), None

    def __init__(self) -> None:
        self.over = False

    def committed(self) -> None:
        self.over = True


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[Storage]:
    apply_audit(postgres_dsn)
    storage = Storage(postgres_dsn)
    await storage.raw.fetch("CREATE TABLE rows (job bigint)")
    yield storage
    await storage.close()


@pytest.fixture
async def desk(postgres_dsn: str) -> AsyncIterator[Desk]:
    made = Desk(postgres_dsn, size=2, name="taskd:task:w")
    yield made
    await made.close()


@pytest.fixture
async def term(store: Storage) -> Term:
    return await store.lead()


@pytest.fixture
async def session(store: Storage) -> Session:
    return await store.work()


async def begun(store: Storage, term: Term, session: Session, jobs: int = 1) -> list[Claim]:
    await store.submit(*[spec(metadata={"a": "b"}, priority=3) for _ in range(jobs)])
    return await store.claim(session, await store.dispatch(term))


async def work(desk: Desk, claim: Claim, told: Told | None = None) -> None:
    async with desk.transaction(claim.job_id, claim.attempt, told or Told()) as connection:
        await connection.execute("INSERT INTO rows VALUES (%s)", [claim.job_id])


def work_sync(desk: Desk, claim: Claim, told: Told | None = None) -> None:
    with desk.transaction_sync(claim.job_id, claim.attempt, told or Told()) as connection:
        connection.execute("INSERT INTO rows VALUES (%s)", [claim.job_id])


async def work_in_a_thread(desk: Desk, claim: Claim, told: Told | None = None) -> None:
    await asyncio.to_thread(work_sync, desk, claim, told)


BOTH = pytest.mark.parametrize("way", [work, work_in_a_thread], ids=["async", "sync"])
Way = Callable[..., Awaitable[None]]


@BOTH
async def test_the_job_is_the_same_as_if_it_were_settled(
    store: Storage, desk: Desk, term: Term, session: Session, way: Way
) -> None:
    ours, theirs = await begun(store, term, session, 2)
    for claim in (ours, theirs):
        assert await store.note(claim, progress=b'{"fraction":0.5}', checkpoint=b"1")
    told = Told()
    await way(desk, ours, told)
    assert told.over
    await store.claims.settle([Settlement(theirs, DONE, decide(DONE, theirs.policy, theirs.record), noted=True)])
    columns = (
        "status, task, queue, priority, attempt, worker_id, failures, crashes, losses, max_retries, backoff, timeout,"
        " dedupe_key, parent_id, outcome, error, metadata, attempts, payload, result, progress"
    )
    rows = await store.raw.fetch(f"SELECT row({columns})::text FROM taskd.finished_jobs ORDER BY id")
    assert rows[0] == rows[1]
    assert await store.raw.fetch(ROWS) == [(1,)]
    assert await store.raw.fetch("SELECT source, status, n FROM taskd.finished_counts") == [
        (session.id, "completed", 2)
    ]
    assert await store.raw.fetch("SELECT job_id FROM taskd.notes") == []
    events = "SELECT from_status, to_status, attempt, session_id FROM taskd.job_events WHERE to_status = 'completed'"
    assert await store.raw.fetch(events) == [("running", "completed", 1, session.id)] * 2
    assert await store.settle([ours]) == set()
    assert await store.claims.outcomes([(ours.job_id, 1)]) == {(ours.job_id, 1): "completed"}


@BOTH
async def test_a_cancel_in_its_middle_rolls_it_back(
    store: Storage, desk: Desk, term: Term, session: Session, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    (claim,) = await begun(store, term, session)
    check = transactions._check
    with psycopg.connect(store.dsn, autocommit=True) as other:
        cancel = {"ids": [claim.job_id], "source": session.id}

        def cancelled(connection: Any) -> None:
            other.execute(statement("cancel").encode(), cancel)
            check(connection)

        monkeypatch.setattr(transactions, "_check", cancelled)
        told = Told()
        with pytest.raises(ClaimLost, match=f"job {claim.job_id} is not this attempt's any more"):
            await way(desk, claim, told)
    assert not told.over
    assert await store.raw.fetch(ROWS) == [(0,)]
    assert (await store.job(claim.job_id)).status == "cancelled"
    with pytest.raises(ClaimLost):  # also from its beginning on
        await way(desk, claim)


@BOTH
async def test_an_older_attempt_completes_nothing(
    store: Storage, desk: Desk, term: Term, session: Session, way: Way
) -> None:
    (claim,) = await begun(store, term, session)
    await store.raw.fetch("UPDATE taskd.jobs SET attempt = 2")
    with pytest.raises(ClaimLost):
        await way(desk, claim)
    assert (await store.job(claim.job_id)).status == "running"


def cut(connection: Any) -> None:
    same = socket.socket(fileno=connection.pgconn.socket)
    same.shutdown(socket.SHUT_RDWR)
    same.detach()


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement is a round trip."""
    for kind in (psycopg.AsyncPipeline, psycopg.Pipeline):
        monkeypatch.setattr(kind, "is_supported", lambda: False)


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("committed", [True, False])
@BOTH
async def test_a_commit_without_an_answer_is_looked_up(
    store: Storage,
    desk: Desk,
    term: Term,
    session: Session,
    way: Way,
    committed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execute, execute_sync = TaskConnection.execute, SyncTaskConnection.execute

    async def lossy(self: Any, query: Any, *arguments: Any) -> Any:
        if query == "COMMIT":
            if committed:
                await execute(self, query)
            cut(self)
            query = "SELECT 1"
        return await execute(self, query, *arguments)

    def lossy_sync(self: Any, query: Any, *arguments: Any) -> Any:
        if query == "COMMIT":
            if committed:
                execute_sync(self, query)
            cut(self)
            query = "SELECT 1"
        return execute_sync(self, query, *arguments)

    monkeypatch.setattr(TaskConnection, "execute", lossy)
    monkeypatch.setattr(SyncTaskConnection, "execute", lossy_sync)
    (claim,) = await begun(store, term, session)
    told = Told()
    if committed:
        await way(desk, claim, told)
    else:
        with pytest.raises(StoreUnavailable, match="rolled back"):
            await way(desk, claim, told)
    assert told.over is committed
    assert await store.raw.fetch(ROWS) == [(int(committed),)]
    assert (await store.job(claim.job_id)).status == ("completed" if committed else "running")


async def test_a_transaction_that_stands_still_is_ended_to_know(
    store: Storage, term: Term, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "PATIENCE", 0.2)
    (claim,) = await begun(store, term, session)
    own = Transaction(lambda: psycopg.connect(store.dsn, autocommit=True), claim.job_id, 1)
    ending = {"job": claim.job_id, "attempt": 1, "session": session.id, "result": "1", "progress": None}
    with psycopg.connect(store.dsn, application_name="taskd:task:lost") as lost:
        lost.execute(statement("complete").encode(), ending)
        assert await asyncio.to_thread(own._truth, "taskd:task:lost") == "running"
        with pytest.raises(psycopg.OperationalError):
            lost.execute("SELECT 1")
    assert (await store.job(claim.job_id)).status == "running"


@pytest.mark.usefixtures("apart")
async def test_being_cancelled_in_the_commit_leaves_no_doubt(
    store: Storage, desk: Desk, term: Term, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, there = TaskConnection.execute, asyncio.Event()

    async def slow(self: Any, query: Any, *arguments: Any) -> Any:
        if query == "COMMIT":
            there.set()
            await asyncio.sleep(0.2)
        return await execute(self, query, *arguments)

    monkeypatch.setattr(TaskConnection, "execute", slow)
    (claim,) = await begun(store, term, session)
    told = Told()
    task = asyncio.create_task(work(desk, claim, told))
    await there.wait()
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told.over
    assert await store.raw.fetch(ROWS) == [(1,)]


async def test_being_cancelled_in_a_statement_rolls_back_and_keeps_the_connection(
    store: Storage, desk: Desk, term: Term, session: Session
) -> None:
    (claim,) = await begun(store, term, session)

    async def endless() -> None:
        async with desk.transaction(claim.job_id, claim.attempt, Told()) as connection:
            await connection.execute("INSERT INTO rows VALUES (1)")
            await connection.execute("SELECT pg_sleep(600)")

    task = asyncio.create_task(endless())
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"

    async def asleep() -> bool:
        return await store.raw.fetch(sleeping) == [(1,)]

    await wait_until_async(asleep)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.raw.fetch(sleeping) == [(0,)]
    assert await store.raw.fetch(ROWS) == [(0,)]
    await work(desk, claim)


@BOTH
async def test_connections_are_few_kept_and_opened_again(
    store: Storage, desk: Desk, term: Term, session: Session, way: Way
) -> None:
    claims = await begun(store, term, session, 12)
    used = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'taskd:task:w:%'"
    await asyncio.gather(*(way(desk, claim) for claim in claims[:10]))
    assert await store.raw.fetch(used) in ([(1,)], [(2,)])
    ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'taskd:task:w:%'"
    await store.raw.fetch(ended)
    await asyncio.gather(*(way(desk, claim) for claim in claims[10:]))
    assert await store.raw.fetch(ROWS) == [(12,)]


async def test_a_desk_without_postgresql_says_so(desk: Desk, term: Term) -> None:
    nowhere = Desk("postgresql://127.0.0.1:1/x", size=1, name="taskd:task:w")
    for _ in range(2):  # the place is free again
        with pytest.raises(StoreUnavailable, match="PostgreSQL: "):
            async with nowhere.transaction(1, 1, Told()):
                pass
    with pytest.raises(ClaimLost):
        async with desk.transaction(1, 1, Told()):
            pass
