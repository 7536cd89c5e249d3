"""What this machine's servers and its network reach by themselves: no figure of taskd's can be better."""

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

from bench.http_load import submit_one_by_one
from bench.rig import Rig, until
from taskd.dev.ports import free_port

ROWS = 1000
TABLE = "CREATE TABLE bench_raw (id bigserial PRIMARY KEY, status smallint NOT NULL DEFAULT 0, payload json NOT NULL)"
INSERT = (
    "INSERT INTO bench_raw (payload) SELECT payload FROM json_to_recordset(%s::json) AS j (payload json) RETURNING id"
)
MOVE = "UPDATE bench_raw SET status = %s WHERE id = ANY(%s::bigint[])"
ADD = "for i = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'd', ARGV[i]) end"


def measure(rig: Rig, seconds: float, say: Callable[[str], None]) -> dict[str, float]:
    """Each limit, measured for about so many seconds."""
    say("what the servers reach by themselves")
    with psycopg.connect(rig.dsn, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS bench_raw")
        connection.execute(TABLE)
        found = {
            "PostgreSQL, rows inserted by the thousand, rows/s": _often(lambda: _insert(connection), seconds, ROWS),
            "PostgreSQL, insert and three updates by the thousand, rows/s": _often(
                lambda: _live(connection), seconds, ROWS
            ),
            "PostgreSQL, single commits, commits/s": _often(lambda: _commit(connection), seconds),
        }
        connection.execute("DROP TABLE bench_raw")
    with redis.Redis.from_url(rig.servers.redis.url) as client:
        add = client.register_script(ADD)
        entries = [f"1:{number}:1" for number in range(ROWS)]
        found["Redis, entries added by the thousand, entries/s"] = _often(
            lambda: add(keys=["bench-raw"], args=entries), seconds, ROWS
        )
        client.delete("bench-raw")
    with bare_http() as (url, _):
        rate, _, _ = submit_one_by_one(url, 100, seconds)
        found["HTTP, bare answers on 100 connections, requests/s"] = rate
    return found


def _often(step: Callable[[], object], seconds: float, each: int = 1) -> float:
    step()
    began, times = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        step()
        times += 1
    return times * each / elapsed


def _insert(connection: psycopg.Connection) -> list[int]:
    document = json.dumps([{"payload": {}}] * ROWS)
    return [row[0] for row in connection.execute(INSERT, [document], prepare=True).fetchall()]


def _live(connection: psycopg.Connection) -> None:
    ids = "{" + ",".join(map(str, _insert(connection))) + "}"
    for status in (1, 2, 3):
        connection.execute(MOVE, [status, ids], prepare=True)


def _commit(connection: psycopg.Connection) -> None:
    connection.execute("INSERT INTO bench_raw (payload) VALUES ('{}')", prepare=True)


@contextlib.contextmanager
def bare_http(application: str = "bench.limits:bare") -> Iterator[tuple[str, int]]:
    """The HTTP server that taskd has, with an application that only answers: its URL and its process id."""
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
    """An ASGI application that reads a body and says 201."""
    await receive()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})
