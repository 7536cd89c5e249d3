"""The lower limit of each process's part of a job, in µs of processor time a job: no stage can cost less.

A limit is the bare statement, command, request and message for the same jobs, in batches of the same size, without
taskd's fences, second indexes and bookkeeping. `python -m bench.lower_limits` on a socket is the bare executor.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import psycopg
import redis
import uvloop
from starlette.types import Receive, Scope, Send

from bench.limits import XADD, bare_http
from bench.machine import nanoseconds
from bench.rig import Rig, batch
from taskd.domain.job import JobInfo
from taskd.seams import Order
from taskd.store.lane import ONE_PLAN, RELAXED, RawJson, RawJsonb
from taskd.worker.pool.protocol import Begin, End, EndKind, Ends, FrameSplitter, encode

#: Jobs in one submit, and in each later step: a worker with 500 slots has no larger batch.
MANY, BATCH = 1000, 500
STREAM, GROUP = "bench-beneath", "bench"
#: The columns and the size of real rows, with a primary key and nothing else.
TABLES = """
CREATE TABLE bench_jobs (LIKE taskd.jobs INCLUDING DEFAULTS, PRIMARY KEY (id)) WITH (fillfactor = 70);
CREATE TABLE bench_done (LIKE taskd.jobs INCLUDING DEFAULTS, PRIMARY KEY (id));
"""
INSERT = """
INSERT INTO bench_jobs (id, task, queue, priority, max_retries, backoff, created_at, schedule_at, payload)
SELECT nextval('bench_jobs_ids'), task, 'default', 50, 3, '{"base": 1, "cap": 300, "kind": "exponential"}',
       now(), now(), payload
FROM json_to_recordset(%s::json) AS j (task text, payload json) RETURNING id, created_at, schedule_at
"""
DISPATCH = """
UPDATE bench_jobs SET status = 'queued', queued_at = now(), dispatch_seq = dispatch_seq + 1 WHERE id = ANY(%s::bigint[])
RETURNING id, dispatch_seq, queue, priority
"""
CLAIM = """
UPDATE bench_jobs SET status = 'running', attempt = attempt + 1, started_at = now(), worker_id = 'bench-1', session_id = %s
WHERE id = ANY(%s::bigint[])
RETURNING id, attempt, task, queue, priority, payload, created_at, schedule_at, queued_at, started_at, timeout,
          metadata, max_retries, backoff, failures, crashes, losses
"""
SETTLE = """
WITH moved AS (DELETE FROM bench_jobs WHERE id = ANY(%s::bigint[]) RETURNING *)
INSERT INTO bench_done SELECT * FROM moved RETURNING id, attempt
"""


@dataclass
class Meter:
    """Adds up processor time by name, in nanoseconds."""

    used: Counter[str] = field(default_factory=Counter)

    @contextlib.contextmanager
    def timed(self, own_name: str, server_name: str, pid: int) -> Iterator[None]:
        """Add this process's time in the block to `own_name`, and the time of `pid` to `server_name`."""
        before, own = nanoseconds(pid), time.process_time_ns()
        yield
        self.used[own_name] += time.process_time_ns() - own
        self.used[server_name] += nanoseconds(pid) - before


def measure(cluster: Rig, jobs: int) -> dict[str, float]:
    """Return µs of processor time a job for each process, with the names of `bench.stages`."""
    meter = Meter()
    pid = cluster.servers.redis.child.pid
    assert pid is not None
    with (
        _connected(cluster, ONE_PLAN) as durable,
        _connected(cluster, RELAXED) as relaxed,
        redis.Redis.from_url(cluster.servers.redis.url, decode_responses=True) as client,
        _executor(cluster) as executor,
        _http(meter, jobs),
    ):
        durable.execute("DROP TABLE IF EXISTS bench_jobs, bench_done; DROP SEQUENCE IF EXISTS bench_jobs_ids")
        durable.execute(f"CREATE SEQUENCE bench_jobs_ids; {TABLES}")
        client.delete(STREAM)
        client.xgroup_create(STREAM, GROUP, mkstream=True)
        for _ in range(jobs // MANY):
            ids = _submit(meter, durable)
            for batch_ids in (ids[:BATCH], ids[BATCH:]):
                _dispatch(meter, relaxed, batch_ids)
                _deliver(meter, client, pid, batch_ids)
                _claim(meter, durable, batch_ids)
                _execute(meter, executor, batch_ids)
                _settle(meter, durable, batch_ids)
        durable.execute("DROP TABLE bench_jobs, bench_done; DROP SEQUENCE bench_jobs_ids")
        client.delete(STREAM)
    return {name: spent / (jobs // MANY * MANY) / 1000 for name, spent in meter.used.items()}


def _connected(cluster: Rig, options: dict[str, str]) -> psycopg.Connection:
    """Return a connection with taskd's settings and loaders."""
    settings = " ".join(f"-c {name}={value}" for name, value in options.items())
    connection = psycopg.connect(cluster.dsn, autocommit=True, options=f"{settings} -c jit=off -c timezone=UTC")
    connection.adapters.register_loader("json", RawJson)
    connection.adapters.register_loader("jsonb", RawJsonb)
    return connection


def _fetch(connection: psycopg.Connection, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    return connection.execute(statement.encode(), parameters, prepare=True, binary=True).fetchall()


def _array(ids: list[int]) -> str:
    return "{" + ",".join(map(str, ids)) + "}"


def _submit(meter: Meter, connection: psycopg.Connection) -> list[int]:
    document = json.dumps([{"task": "noop", "payload": {}}] * MANY)
    with meter.timed("scheduler", "PostgreSQL, bulk", connection.info.backend_pid):
        rows = _fetch(connection, INSERT, document)
    return [int(str(row[0])) for row in rows]


def _dispatch(meter: Meter, connection: psycopg.Connection, ids: list[int]) -> None:
    with meter.timed("scheduler", "PostgreSQL, leader", connection.info.backend_pid):
        _fetch(connection, DISPATCH, _array(ids))


def _deliver(meter: Meter, client: redis.Redis, pid: int, ids: list[int]) -> None:
    values = [f"1:{number}:1" for number in ids]
    with meter.timed("scheduler", "Redis", pid):
        client.eval(XADD, 1, STREAM, *values)
    with meter.timed("worker", "Redis", pid):
        streams: Any = client.xreadgroup(GROUP, "bench-1", {STREAM: ">"}, count=BATCH)
        entries = [entry for _, of_stream in streams for entry, _ in of_stream]
        client.xack(STREAM, GROUP, *entries)
        client.xdel(STREAM, *entries)


def _claim(meter: Meter, connection: psycopg.Connection, ids: list[int]) -> None:
    session = uuid4()
    with meter.timed("worker", "PostgreSQL, claim", connection.info.backend_pid):
        _fetch(connection, CLAIM, session, _array(ids))


def _settle(meter: Meter, connection: psycopg.Connection, ids: list[int]) -> None:
    with meter.timed("worker", "PostgreSQL, settle", connection.info.backend_pid):
        _fetch(connection, SETTLE, _array(ids))


# ---------------------------------------------------------------- the executor


def _execute(meter: Meter, executor: tuple[socket.socket, int], ids: list[int]) -> None:
    """Send the orders and receive the ends."""
    link, pid = executor
    now = datetime.now(UTC)
    orders = [Order(JobInfo(i, "noop", "default", 50, b"{}", now, now, None, {}, 3, 0, "bench-1"), 1) for i in ids]
    decoder = msgspec.msgpack.Decoder(Ends)
    with meter.timed("worker", "executor", pid):
        link.sendall(encode(Begin(orders)))
        assert len(decoder.decode(next(_frames(link))).ends) == len(ids)


def _frames(link: socket.socket) -> Iterator[bytes]:
    frames = FrameSplitter()
    while data := link.recv(256 * 1024):
        yield from frames.feed(data)


@contextlib.contextmanager
def _executor(cluster: Rig) -> Iterator[tuple[socket.socket, int]]:
    """Start a bare executor; yield the socket to it and its process id."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.lower_limits"], stdin=theirs.fileno(), env=cluster.environment
            )
        yield ours, process.pid
    process.wait()


def execute() -> None:
    """Run as a bare executor.

    Each order becomes an asyncio task that does the same as the task `noop`. One message has all ends.
    """
    from bench.peers.common import ran  # noqa: PLC0415  # it needs environment variables that other callers lack

    async def noop() -> None:
        ran(0)

    async def begin(orders: list[Order]) -> None:
        for task in [loop.create_task(noop()) for _ in orders]:
            await task

    decoder, loop = msgspec.msgpack.Decoder(Begin), uvloop.new_event_loop()
    with socket.socket(fileno=sys.stdin.fileno()) as link:
        for body in _frames(link):
            orders = decoder.decode(body).orders
            loop.run_until_complete(begin(orders))
            link.sendall(encode(Ends([End(o.job_id, o.attempt, EndKind.COMPLETED, b"null") for o in orders])))


# ---------------------------------------------------------------- the API


@contextlib.contextmanager
def _http(meter: Meter, jobs: int) -> Iterator[None]:
    """Send a client's batches to a server that decodes them and answers as many jobs."""
    with bare_http("bench.lower_limits:stores_nothing") as (url, pid), httpx.Client(timeout=60) as client:
        body = batch("noop", {}, MANY)
        client.post(url, content=body)
        with meter.timed("client", "scheduler", pid):
            for _ in range(jobs // MANY):
                client.post(url, content=body).raise_for_status()
    yield


async def stores_nothing(_scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application that reads a batch as JSON and answers each of its jobs."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    jobs = msgspec.json.decode(body)["jobs"]
    answer = msgspec.json.encode({"jobs": [{"id": place, "duplicate": False} for place, _ in enumerate(jobs)]})
    head = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 201, "headers": head})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    execute()
