"""The highest rates of this machine's servers and network alone: no figure of taskd's can be better."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psycopg
import redis
from starlette.types import Receive, Scope, Send

from bench.ceilings import ADD, BARE, COMMITS, HTTP, INSERT, LIFE, LIFE_CPU, STEADY
from bench.http_load import submit_one_by_one, submit_steadily
from bench.machine import busy, peak
from bench.rig import Rig, until
from taskd.dev.servers.ports import free_port

ROWS = 1000
TABLE = "CREATE TABLE bench_raw (id bigserial PRIMARY KEY, status smallint NOT NULL DEFAULT 0, payload json NOT NULL)"
INSERT_ROWS = (
    "INSERT INTO bench_raw (payload) SELECT payload FROM json_to_recordset(%s::json) AS j (payload json) RETURNING id"
)
MOVE = "UPDATE bench_raw SET status = %s WHERE id = ANY(%s::bigint[])"
XADD = "for i = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'd', ARGV[i]) end"


def measure(rig: Rig, seconds: float) -> dict[str, float]:
    """Measure each limit for about `seconds` seconds."""
    return _postgres(rig, seconds) | _redis(rig, seconds) | _http(seconds)


def _postgres(rig: Rig, seconds: float) -> dict[str, float]:
    with psycopg.connect(rig.dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS bench_raw")
        connection.execute(TABLE)
        inserts = _rate(lambda: _insert(connection), seconds, ROWS)
        used, began = busy(), time.perf_counter()
        updated = _rate(lambda: _insert_and_update(connection), seconds, ROWS)
        jobs_each = (busy() - used) / (time.perf_counter() - began) / updated
        commits = _rate(lambda: _commit(connection), seconds)
        connection.execute("DROP TABLE bench_raw")
    return {INSERT: inserts, LIFE: updated, LIFE_CPU: jobs_each * 100_000, COMMITS: commits}


def _redis(rig: Rig, seconds: float) -> dict[str, float]:
    with redis.Redis.from_url(rig.servers.redis.url) as client:
        script = client.register_script(XADD)
        entries = [f"1:{number}:1" for number in range(ROWS)]
        rate = _rate(lambda: script(keys=["bench-raw"], args=entries), seconds, ROWS)
        client.delete("bench-raw")
    return {ADD: rate}


def _http(seconds: float) -> dict[str, float]:
    with bare_http() as (url, pid):
        rate, p50, p99 = submit_one_by_one(url, 100, seconds)
        _, steady50, steady99 = submit_steadily(url, 100, 5000, seconds)
        megabytes = peak(pid)
    return {
        f"{HTTP}, requests/s": rate,
        f"{HTTP}, p50, ms": p50,
        f"{HTTP}, p99, ms": p99,
        f"{STEADY}, p50, ms": steady50,
        f"{STEADY}, p99, ms": steady99,
        BARE: megabytes,
    }


def _rate(step: Callable[[], object], seconds: float, jobs: int = 1) -> float:
    step()
    began, times = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        step()
        times += 1
    return times * jobs / elapsed


def _insert(connection: psycopg.Connection) -> list[int]:
    document = json.dumps([{"payload": {}}] * ROWS)
    return [row[0] for row in connection.execute(INSERT_ROWS, [document], prepare=True).fetchall()]


def _insert_and_update(connection: psycopg.Connection) -> None:
    ids = "{" + ",".join(map(str, _insert(connection))) + "}"
    for status in (1, 2, 3):
        connection.execute(MOVE, [status, ids], prepare=True)


def _commit(connection: psycopg.Connection) -> None:
    connection.execute("INSERT INTO bench_raw (payload) VALUES ('{}')", prepare=True)


@contextlib.contextmanager
def bare_http(application: str = "bench.limits:bare") -> Iterator[tuple[str, int]]:
    """Start taskd's HTTP server with an application that only answers; yields its URL and its process id."""
    port = free_port()
    command = (
        *(sys.executable, "-m", "uvicorn", application, "--port", str(port)),
        *("--log-level", "error", "--no-access-log", "--lifespan", "off"),
    )
    server = subprocess.Popen(command, env=os.environ, stdin=subprocess.DEVNULL)
    try:
        until(lambda: _listens(port))
        yield f"http://127.0.0.1:{port}", server.pid
    finally:
        server.terminate()
        server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application that reads a body and answers 201."""
    await receive()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})
