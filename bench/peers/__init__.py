"""The systems that taskd is compared with, each with its installation and its best settings.

Each has a script here, which runs in a separate environment (`.venv-bench/NAME`, `bench/peers/node`), since their
dependencies conflict. A script is called as `SCRIPT prepare`, `SCRIPT one N`, `SCRIPT bulk N`, `SCRIPT interactive 0`
or `SCRIPT work` (see common.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Peer(NamedTuple):
    """System to compare with.

    - `workers`: the arguments of each worker process, after its program.
    - `jobs`: how many jobs it runs end to end, about five seconds of its work, and in a drain, unless `backlog` is given.
    - `note`: its settings in words.
    - `unfinished`: a query of its store, in SQL or in Lua, for the number of jobs without a recorded end.
    """

    name: str
    program: str
    script: str
    workers: Sequence[Sequence[str]]
    jobs: int
    note: str
    unfinished: str
    backlog: int = 0


#: Jobs that the fast ones drain, enough to include a growing table and indexes with old entries.
BACKLOG = 200_000
CELERY = (
    "-A",
    "celery_peer",
    "worker",
    "--pool",
    "solo",
    "--loglevel",
    "error",
    "--without-gossip",
    "--without-mingle",
)
TASKIQ = ("worker", "taskiq_peer:broker", "--workers", "2", "--log-level", "ERROR", "--max-async-tasks", "500")

PEERS = (
    Peer(
        name="pgqueuer",
        program="python",
        script="pgqueuer_peer.py",
        workers=(("pgqueuer_peer.py", "work"),),
        jobs=60_000,
        note="1 process, batches of 500; rows are deleted at the end, up to 100 ms after it",
        unfinished="SELECT count(*) FROM pgqueuer",
        backlog=BACKLOG,
    ),
    Peer(
        name="procrastinate",
        program="python",
        script="procrastinate_peer.py",
        workers=(("procrastinate_peer.py", "work"),),
        jobs=3_000,
        note="1 process, 20 at once",
        unfinished="SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')",
    ),
    Peer(
        name="celery",
        program="celery",
        script="celery_peer.py",
        workers=((*CELERY, "-n", "w1@%h"), (*CELERY, "-n", "w2@%h")),
        jobs=10_000,
        note="2 solo workers, prefetch 128, no results; acknowledges a job before it runs, so done is when it starts",
        unfinished="return redis.call('LLEN', 'celery') + redis.call('HLEN', 'unacked')",
    ),
    Peer(
        name="dramatiq",
        program="dramatiq",
        script="dramatiq_peer.py",
        workers=(("dramatiq_peer", "-p", "2", "-t", "4"),),
        jobs=30_000,
        note="2 processes of 4 threads, retries and no other middleware",
        unfinished="return redis.call('HLEN', 'dramatiq:default.msgs')",
    ),
    Peer(
        name="taskiq",
        program="taskiq",
        script="taskiq_peer.py",
        workers=(TASKIQ,),
        jobs=20_000,
        note="Redis Streams, 2 processes, no results",
        unfinished="return redis.call('XPENDING', 'taskiq', 'taskiq')[1]",
    ),
    Peer(
        name="arq",
        program="arq",
        script="arq_peer.py",
        workers=(("arq_peer.WorkerSettings",), ("arq_peer.WorkerSettings",)),
        jobs=10_000,
        note="2 processes, 500 at once, polled every 5 ms, no results",
        unfinished="return redis.call('ZCARD', 'arq:queue')",
    ),
    Peer(
        name="BullMQ",
        program="node",
        script="bullmq.mjs",
        workers=(("bullmq.mjs", "work"),),
        jobs=40_000,
        note="Node.js, 1 process, 100 at once; jobs are removed at the end",
        unfinished="return redis.call('LLEN', 'bull:bench:wait') + redis.call('LLEN', 'bull:bench:active')",
    ),
    Peer(
        name="graphile-worker",
        program="node",
        script="graphile.mjs",
        workers=(("graphile.mjs", "work"), ("graphile.mjs", "work")),
        jobs=60_000,
        note="Node.js, 2 processes, local queue 500, completions sent in batches; rows are deleted at the end",
        unfinished="SELECT count(*) FROM graphile_worker._private_jobs",
        backlog=BACKLOG,
    ),
)
