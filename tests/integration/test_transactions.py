"""Test a task's transaction on a real PostgreSQL: its commits, its rollbacks, and unknown outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import psycopg
import psycopg.types.string
import pytest
import uvloop

from taskd.domain.errors import ClaimLost, StoreUnavailable
from taskd.domain.fencing import Claim, Session, Term
from taskd.domain.retry import decide
from taskd.executor.attempt_transaction import AttemptTransaction
from taskd.executor.threads import WorkerThread
from taskd.seams import Order, Settlement
from taskd.store import transactions
from taskd.store.migrations import apply_audit
from taskd.store.statements import statement
from taskd.store.task_connections import SyncTaskConnection, TaskConnection, TaskConnectionPool
from taskd.store.transactions import Transaction
from taskd.worker.pool.protocol import End, EndKind
from tests.integration.storage import DONE, Storage, spec
from tests.servers import wait_until, wait_until_async

ROWS = "SELECT count(*) FROM public.rows"
NOW = datetime(2026, 1, 31, tzinfo=UTC)


class RecordedCompletion:
    """Completion of an attempt that records its commit."""

    result, progress = bytes(DONE.result), None

    def __init__(self) -> None:
        self.over = False

    def committed(self) -> None:
        self.over = True


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncIterator[Storage]:
    apply_audit(postgres_dsn)
    storage = Storage(postgres_dsn)
    await storage.raw.fetch("CREATE TABLE public.rows (job bigint)")
    yield storage
    await storage.close()


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[TaskConnectionPool]:
    new_pool = TaskConnectionPool(postgres_dsn, size=2, name="taskd:task:w")
    yield new_pool
    await new_pool.close()


async def begun(store: Storage, term: Term, session: Session, jobs: int = 1) -> list[Claim]:
    await store.submit(*[spec(metadata={"a": "b"}, priority=3) for _ in range(jobs)])
    return await store.claim(session, await store.dispatch(term))


async def work(pool: TaskConnectionPool, claim: Claim, completion: RecordedCompletion | None = None) -> None:
    async with pool.transaction(claim.job_id, claim.attempt, completion or RecordedCompletion()) as connection:
        await connection.execute("INSERT INTO rows VALUES (%s)", [claim.job_id])


def work_sync(pool: TaskConnectionPool, claim: Claim, completion: RecordedCompletion | None = None) -> None:
    with pool.transaction_sync(claim.job_id, claim.attempt, completion or RecordedCompletion()) as connection:
        connection.execute("INSERT INTO rows VALUES (%s)", [claim.job_id])


async def work_in_a_thread(
    pool: TaskConnectionPool, claim: Claim, completion: RecordedCompletion | None = None
) -> None:
    await asyncio.to_thread(work_sync, pool, claim, completion)


BOTH = pytest.mark.parametrize("way", [work, work_in_a_thread], ids=["async", "sync"])
Way = Callable[..., Awaitable[None]]


@BOTH
async def test_the_job_is_the_same_as_if_it_were_settled(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session, way: Way
) -> None:
    by_task, by_worker = await begun(store, term, session, 2)
    for claim in (by_task, by_worker):
        assert await store.note(claim, progress=b'{"fraction":0.5}', checkpoint=b"1")
    completion = RecordedCompletion()
    await way(pool, by_task, completion)
    assert completion.over
    await store.claims.settle(
        [Settlement(by_worker, DONE, decide(DONE, by_worker.policy, by_worker.record), noted=True)]
    )
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
    assert await store.settle([by_task]) == set()
    assert await store.claims.outcomes([by_task.attempt_id]) == {by_task.attempt_id: "completed"}


@BOTH
async def test_a_cancel_in_its_middle_rolls_it_back(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    (claim,) = await begun(store, term, session)
    check = transactions._check
    with psycopg.connect(store.dsn, autocommit=True) as other:
        cancel = {"ids": [claim.job_id], "source": session.id}

        def cancelled(connection: Any) -> None:
            other.execute(statement("cancel").encode(), cancel)
            check(connection)

        monkeypatch.setattr(transactions, "_check", cancelled)
        completion = RecordedCompletion()
        with pytest.raises(ClaimLost, match=f"job {claim.job_id} is not this attempt's any more"):
            await way(pool, claim, completion)
    assert not completion.over
    assert await store.raw.fetch(ROWS) == [(0,)]
    assert (await store.job(claim.job_id)).status == "cancelled"
    with pytest.raises(ClaimLost):  # also at the beginning
        await way(pool, claim)


@BOTH
async def test_an_older_attempt_completes_nothing(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session, way: Way
) -> None:
    (claim,) = await begun(store, term, session)
    await store.raw.fetch("UPDATE taskd.jobs SET attempt = 2")
    with pytest.raises(ClaimLost):
        await way(pool, claim)
    assert (await store.job(claim.job_id)).status == "running"


def cut(connection: Any) -> None:
    same = socket.socket(fileno=connection.pgconn.socket)
    same.shutdown(socket.SHUT_RDWR)
    same.detach()


@pytest.mark.parametrize("committed", [True, False])
@BOTH
async def test_a_commit_without_an_answer_is_looked_up(
    store: Storage,
    pool: TaskConnectionPool,
    term: Term,
    session: Session,
    way: Way,
    committed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send, send_sync = transactions.send, transactions.send_sync

    async def lossy(connection: Any, query: str, named: Any = None) -> Any:
        if query == transactions.COMMIT:
            if committed:
                await send(connection, query, named)
            cut(connection)
        return await send(connection, query, named)

    def lossy_sync(connection: Any, query: str, named: Any = None) -> Any:
        if query == transactions.COMMIT:
            if committed:
                send_sync(connection, query, named)
            cut(connection)
        return send_sync(connection, query, named)

    monkeypatch.setattr(transactions, "send", lossy)
    monkeypatch.setattr(transactions, "send_sync", lossy_sync)
    (claim,) = await begun(store, term, session)
    completion = RecordedCompletion()
    if committed:
        await way(pool, claim, completion)
    else:
        with pytest.raises(StoreUnavailable, match="rolled back"):
            await way(pool, claim, completion)
    assert completion.over is committed
    assert await store.raw.fetch(ROWS) == [(int(committed),)]
    assert (await store.job(claim.job_id)).status == ("completed" if committed else "running")


class LostTransaction:
    """Transaction whose process has lost its connection, while it continues in PostgreSQL or on the network."""

    def __init__(self, store: Storage, claim: Claim, stack: ExitStack) -> None:
        self.looks = 0
        self._dsn = store.dsn
        self.transaction = Transaction(self._look, claim.job_id, claim.attempt)
        self.connection = stack.enter_context(psycopg.connect(store.dsn, autocommit=True))
        self.transaction.begin_sync(self.connection)

    def commit(self) -> None:
        transactions.send_sync(self.connection, transactions.COMMIT, self.transaction._parameters(RecordedCompletion()))

    def _look(self) -> Any:
        self.looks += 1
        return psycopg.connect(self._dsn, autocommit=True)


@pytest.fixture
async def lost(store: Storage, term: Term, session: Session) -> AsyncIterator[LostTransaction]:
    (claim,) = await begun(store, term, session)
    with ExitStack() as stack:
        yield LostTransaction(store, claim, stack)


async def test_nothing_is_said_of_a_transaction_that_may_still_commit(
    store: Storage, lost: LostTransaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test a COMMIT that is still on the network: until it arrives, there is no lock to wait for."""
    monkeypatch.setattr(transactions, "LOOK", 0.01)
    monkeypatch.setattr(transactions, "PATIENCE", 600)
    truth = asyncio.create_task(asyncio.to_thread(lost.transaction._outcome))

    async def looked() -> bool:
        return lost.looks > 2 or truth.done()

    await wait_until_async(looked)
    assert not truth.done()
    lost.commit()
    assert await truth == "completed"


async def test_a_transaction_that_stands_still_is_ended_to_know(
    store: Storage, lost: LostTransaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "PATIENCE", 0.2)
    complete = transactions.COMMIT.removesuffix("COMMIT")
    transactions.send_sync(lost.connection, complete + "SELECT 1", lost.transaction._parameters(RecordedCompletion()))
    assert await asyncio.to_thread(lost.transaction._outcome) == "running"
    with pytest.raises(psycopg.OperationalError):
        lost.connection.execute("SELECT 1")


async def test_who_may_not_end_it_waits_for_its_end(
    store: Storage, lost: LostTransaction, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transactions, "LOOK", 0.01)
    monkeypatch.setattr(transactions, "PATIENCE", 0)
    monkeypatch.setattr(transactions, "REMIND", 2)
    monkeypatch.setattr(transactions, "TERMINATE", "SET ROLE nobody; SELECT * FROM taskd.jobs")
    truth = asyncio.create_task(asyncio.to_thread(lost.transaction._outcome))

    async def looked() -> bool:
        return lost.looks > 3 or truth.done()

    with psycopg.connect(store.dsn, autocommit=True) as other:
        other.execute("CREATE ROLE nobody")
        try:
            await wait_until_async(looked)
            assert not truth.done()
            lost.connection.close()
            assert await truth == "running"
        finally:
            other.execute("DROP ROLE nobody")
    assert "the outcome of a COMMIT is still unknown" in "".join(capsys.readouterr())


async def test_an_outcome_that_cannot_be_looked_up_is_unknown(store: Storage, lost: LostTransaction) -> None:
    lost.transaction._connect = lambda: psycopg.connect(store.dsn, dbname="postgres", autocommit=True)
    lost.connection.close()
    with pytest.raises(StoreUnavailable, match="outcome of a COMMIT cannot be looked up") as caught:
        await asyncio.to_thread(lost.transaction._outcome)
    assert caught.value.outcome_unknown


async def test_a_process_that_stands_still_holds_no_locks_of_the_end(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session
) -> None:
    """Test that PostgreSQL has received everything: the loop does not run between the wait for a lock and the commit."""
    first, claim = await begun(store, term, session, 2)
    await work(pool, first)  # creates the counter
    with psycopg.connect(store.dsn) as other, psycopg.connect(store.dsn, autocommit=True) as watch:
        other.execute("SELECT FROM taskd.finished_counts FOR UPDATE")
        task = asyncio.create_task(work(pool, claim))
        waits = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ 'taskd:task:w' AND wait_event_type = 'Lock'"
        )

        async def waiting() -> bool:
            return watch.execute(waits).fetchone() == (1,)

        await wait_until_async(waiting)
        other.rollback()
        ended = "SELECT count(*) FROM taskd.finished_jobs"
        wait_until(lambda: watch.execute(ended).fetchone() == (2,))  # the loop is blocked
    await task


async def test_being_cancelled_in_the_commit_leaves_no_doubt(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, arrived, proceed = transactions.send, asyncio.Event(), asyncio.Event()

    async def slow(connection: Any, query: str, named: Any = None) -> Any:
        if query == transactions.COMMIT:
            arrived.set()
            await proceed.wait()
        return await send(connection, query, named)

    monkeypatch.setattr(transactions, "send", slow)
    (claim,) = await begun(store, term, session)
    completion = RecordedCompletion()
    task = asyncio.create_task(work(pool, claim, completion))
    await arrived.wait()
    task.cancel()
    asyncio.get_running_loop().call_soon(task.cancel)
    asyncio.get_running_loop().call_soon(proceed.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert completion.over
    assert await store.raw.fetch(ROWS) == [(1,)]


async def test_being_cancelled_in_a_statement_rolls_back_and_keeps_the_connection(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session
) -> None:
    (claim,) = await begun(store, term, session)

    async def endless() -> None:
        async with pool.transaction(claim.job_id, claim.attempt, RecordedCompletion()) as connection:
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
    await work(pool, claim)


@BOTH
async def test_connections_are_few_kept_and_opened_again(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session, way: Way
) -> None:
    claims = await begun(store, term, session, 12)
    used = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'taskd:task:w:%'"
    await asyncio.gather(*(way(pool, claim) for claim in claims[:10]))
    assert await store.raw.fetch(used) in ([(1,)], [(2,)])
    ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'taskd:task:w:%'"
    await store.raw.fetch(ended)
    await asyncio.gather(*(way(pool, claim) for claim in claims[10:]))
    assert await store.raw.fetch(ROWS) == [(12,)]


async def test_a_pool_without_postgresql_says_so(pool: TaskConnectionPool, term: Term) -> None:
    nowhere = TaskConnectionPool("postgresql://127.0.0.1:1/x", size=1, name="taskd:task:w")
    for _ in range(2):  # the connection is free again
        with pytest.raises(StoreUnavailable, match="PostgreSQL: "):
            async with nowhere.transaction(1, 1, RecordedCompletion()):
                pass
    with pytest.raises(ClaimLost):
        async with pool.transaction(1, 1, RecordedCompletion()):
            pass


async def dirty(pool: TaskConnectionPool, claim: Claim) -> None:
    connection: Any
    async with pool.transaction(claim.job_id, claim.attempt, RecordedCompletion()) as connection:
        connection.row_factory = psycopg.rows.dict_row
        connection.cursor_factory = psycopg.AsyncRawCursor
        connection.prepare_threshold = 0
        connection.adapters.register_loader("int8", psycopg.types.string.TextLoader)
        connection.add_notice_handler(notices.append)
        await connection.execute("INSERT INTO rows VALUES ($1)", [claim.job_id])
        assert await (await connection.execute("SELECT 1::bigint AS one")).fetchone() == {"one": "1"}


def dirty_sync(pool: TaskConnectionPool, claim: Claim) -> None:
    connection: Any
    with pool.transaction_sync(claim.job_id, claim.attempt, RecordedCompletion()) as connection:
        connection.row_factory = psycopg.rows.dict_row
        connection.cursor_factory = psycopg.RawCursor
        connection.prepare_threshold = 0
        connection.adapters.register_loader("int8", psycopg.types.string.TextLoader)
        connection.add_notice_handler(notices.append)
        connection.execute("INSERT INTO rows VALUES ($1)", [claim.job_id])
        assert connection.execute("SELECT 1::bigint AS one").fetchone() == {"one": "1"}


async def clean(pool: TaskConnectionPool, claim: Claim) -> Any:
    async with pool.transaction(claim.job_id, claim.attempt, RecordedCompletion()) as connection:
        await connection.execute("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
        assert connection.prepare_threshold == 5
        for _ in range(2):  # prepared under the same name as before
            cursor = await connection.execute("SELECT %s::bigint", [1], prepare=True)
        return connection.info.backend_pid, await cursor.fetchone()


def clean_sync(pool: TaskConnectionPool, claim: Claim) -> Any:
    with pool.transaction_sync(claim.job_id, claim.attempt, RecordedCompletion()) as connection:
        connection.execute("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")
        assert connection.prepare_threshold == 5
        for _ in range(2):
            cursor = connection.execute("SELECT %s::bigint", [1], prepare=True)
        return connection.info.backend_pid, cursor.fetchone()


notices: list[Any] = []


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_what_a_task_sets_on_its_connection_ends_with_it(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session, asynchronous: bool
) -> None:
    claims = await begun(store, term, session, 3)
    notices.clear()
    if asynchronous:
        await dirty(pool, claims[0])
        results = [await clean(pool, claim) for claim in claims[1:]]
    else:
        await asyncio.to_thread(dirty_sync, pool, claims[0])
        results = [await asyncio.to_thread(clean_sync, pool, claim) for claim in claims[1:]]
    pid, row = results[0]
    assert row == (1,)
    assert results[1] == (pid, row)  # one connection to PostgreSQL, kept
    assert notices == []


@pytest.mark.parametrize("fails", [True, False])
async def test_what_is_left_of_a_block_cannot_write_any_more(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session, fails: bool
) -> None:
    first, second = await begun(store, term, session, 2)
    over, errors = asyncio.Event(), []

    async def leftover(connection: TaskConnection) -> None:
        cursor = connection.cursor()
        await over.wait()
        for use in (connection, cursor):
            try:
                await use.execute("INSERT INTO rows VALUES (-1)")
            except psycopg.Error as error:
                errors.append(error)

    async def block() -> None:
        async with pool.transaction(first.job_id, first.attempt, RecordedCompletion()) as connection:
            await connection.execute("INSERT INTO rows VALUES (1)")
            tasks.append(asyncio.create_task(leftover(connection)))
            await asyncio.sleep(0)
            if fails:
                raise KeyError("a")

    tasks: list[asyncio.Task[None]] = []
    with contextlib.suppress(KeyError):
        await block()
    async with pool.transaction(second.job_id, second.attempt, RecordedCompletion()) as connection:
        await connection.execute("INSERT INTO rows VALUES (2)")
        over.set()
        await tasks[0]
    assert len(errors) == 2
    expected = [(2,)] if fails else [(1,), (2,)]
    assert await store.raw.fetch("SELECT job FROM public.rows ORDER BY job") == expected


SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"


async def nothing_sleeps(store: Storage) -> bool:
    """Return True if no statement sleeps; PostgreSQL takes a moment to end a cancelled one."""
    return await store.raw.fetch(SLEEPING) == [(0,)]


def on_uvloop(made: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(made())


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_block_ends_under_a_statement_without_a_waiter(
    store: Storage, term: Term, session: Session, fails: bool, loop: str
) -> None:
    """Test that it rolls back, and that neither the statement nor its waiter continues."""
    (claim,) = await begun(store, term, session)

    async def sleep(connection: TaskConnection) -> None:
        await connection.execute("INSERT INTO rows VALUES (1)")
        await connection.execute("SELECT pg_sleep(600)")

    async def block(pool: TaskConnectionPool, watch: psycopg.Connection[Any], left: list[asyncio.Task[None]]) -> None:
        async def asleep() -> bool:
            return watch.execute(SLEEPING).fetchone() == (1,)

        async with pool.transaction(claim.job_id, claim.attempt, RecordedCompletion()) as connection:
            left.append(asyncio.create_task(sleep(connection)))
            await wait_until_async(asleep)
            if fails:
                raise KeyError("a")

    async def run() -> None:
        tasks: list[asyncio.Task[None]] = []
        pool = TaskConnectionPool(store.dsn, size=1, name="taskd:task:w")
        with psycopg.connect(store.dsn, autocommit=True) as watch:
            with pytest.raises(
                KeyError if fails else RuntimeError, match="a" if fails else "still uses its connection"
            ):
                await block(pool, watch, tasks)
            with pytest.raises(psycopg.Error):
                await tasks[0]
            await wait_until_async(lambda: asyncio.to_thread(lambda: watch.execute(SLEEPING).fetchone() == (0,)))
        await work(pool, claim)
        await pool.close()

    await (run() if loop == "asyncio" else asyncio.to_thread(on_uvloop, run))
    assert await store.raw.fetch("SELECT job FROM public.rows") == [(claim.job_id,)]


@pytest.mark.parametrize("fails", [True, False])
async def test_a_plain_block_ends_under_a_statement_of_another_thread(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session, fails: bool
) -> None:
    (claim,) = await begun(store, term, session)
    tasks: list[asyncio.Task[None]] = []

    def sleep(connection: SyncTaskConnection) -> None:
        connection.execute("SELECT pg_sleep(600)")

    def block(loop: asyncio.AbstractEventLoop) -> None:
        with (
            psycopg.connect(store.dsn, autocommit=True) as watch,
            pool.transaction_sync(claim.job_id, claim.attempt, RecordedCompletion()) as connection,
        ):
            thread = asyncio.to_thread(sleep, connection)
            loop.call_soon_threadsafe(lambda: tasks.append(asyncio.create_task(thread)))
            wait_until(lambda: watch.execute(SLEEPING).fetchone() == (1,))
            if fails:
                raise KeyError("a")

    with pytest.raises(KeyError if fails else RuntimeError):
        await asyncio.to_thread(block, asyncio.get_running_loop())
    with pytest.raises(psycopg.Error):
        await tasks[0]
    await wait_until_async(lambda: nothing_sleeps(store))
    await work_in_a_thread(pool, claim)


class StoppableTask:
    """StoppableTask task in a separate thread, which can be stopped."""

    def __init__(self, pool: TaskConnectionPool, claim: Claim, work: Callable[[AttemptTransaction], None]) -> None:
        self.over = asyncio.Event()
        order = Order(claim.job, claim.attempt)
        self._settling = AttemptTransaction(order, 1000, lambda: pool)
        self._work = work
        self._thread = WorkerThread(asyncio.get_running_loop())
        self._thread.run(self._run, lambda end: self.over.set())

    def _run(self) -> End:
        self._work(self._settling)
        return End(1, 1, EndKind.COMPLETED)

    async def stop(self) -> None:
        self._thread.interrupt()
        self._settling.interrupt()
        await asyncio.wait_for(self.over.wait(), 10)
        self._thread.dismiss()


async def test_a_plain_task_is_stopped_while_it_waits_for_a_place(store: Storage, term: Term, session: Session) -> None:
    claims = await begun(store, term, session, 2)
    pool = TaskConnectionPool(store.dsn, size=1, name="taskd:task:w")
    with pool.transaction_sync(claims[0].job_id, claims[0].attempt, RecordedCompletion()):
        arrived = threading.Event()

        def wait(settling: AttemptTransaction) -> None:
            arrived.set()
            with settling.transaction_sync():
                raise AssertionError("there is no place")

        plain = StoppableTask(pool, claims[1], wait)
        await asyncio.to_thread(arrived.wait)
        await plain.stop()
    await work_in_a_thread(pool, claims[1])  # the pool has kept its connection
    assert await store.raw.fetch(ROWS) == [(1,)]
    await pool.close()


async def test_a_plain_task_is_stopped_in_a_long_statement(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session
) -> None:
    (claim,) = await begun(store, term, session)

    def endless(settling: AttemptTransaction) -> None:
        with settling.transaction_sync() as connection:
            connection.execute("INSERT INTO rows VALUES (1)")
            connection.execute("SELECT pg_sleep(600)")

    async def asleep() -> bool:
        return await store.raw.fetch(SLEEPING) == [(1,)]

    plain = StoppableTask(pool, claim, endless)
    await wait_until_async(asleep)
    await plain.stop()
    await wait_until_async(lambda: nothing_sleeps(store))
    await work_in_a_thread(pool, claim)
    assert await store.raw.fetch(ROWS) == [(1,)]


async def test_completions_do_not_fail_each_other_whatever_the_default_isolation_is(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session
) -> None:
    await store.raw.fetch(
        f"ALTER DATABASE {psycopg.conninfo.conninfo_to_dict(store.dsn)['dbname']}"
        " SET default_transaction_isolation = 'repeatable read'"
    )
    first, second, third = await begun(store, term, session, 3)
    await work(pool, first)
    async with pool.transaction(second.job_id, second.attempt, RecordedCompletion()):
        await work(pool, third)  # changes the counter that the other transaction changes later
    assert await store.raw.fetch("SELECT n FROM taskd.finished_counts") == [(3,)]


async def test_a_dead_line_is_noticed_and_the_dsn_says_how_soon(store: Storage, term: Term, session: Session) -> None:
    claims = await begun(store, term, session, 1)
    pool = TaskConnectionPool(psycopg.conninfo.make_conninfo(store.dsn, keepalives_idle=7), size=1, name="taskd:task:w")
    async with pool.transaction(claims[0].job_id, claims[0].attempt, RecordedCompletion()) as connection:
        parameters = connection.info.get_parameters()
    assert (parameters["keepalives_idle"], parameters["keepalives_count"], parameters["tcp_user_timeout"]) == (
        "7",
        "3",
        "30000",
    )
    await pool.close()


async def test_a_task_does_not_hear_what_its_commit_says(
    store: Storage, pool: TaskConnectionPool, term: Term, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    (claim,) = await begun(store, term, session)
    await store.raw.fetch(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'heard'; RETURN NULL; END $$"
    )
    await store.raw.fetch(
        "CREATE CONSTRAINT TRIGGER telling AFTER INSERT ON public.rows DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION tell()"
    )
    notices.clear()
    async with pool.transaction(claim.job_id, claim.attempt, RecordedCompletion()) as connection:
        connection.add_notice_handler(notices.append)
        await connection.execute("INSERT INTO rows VALUES (1)")
    assert connection.closed
    assert notices == []
    assert "notice" not in caplog.text
