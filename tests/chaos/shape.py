"""The size of a scenario's cluster, its load and its timings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from taskd.domain.shard import shard_of
from taskd.torture.workload import Workload

#: Number of shards in every scenario. "The leader" is that of queue `default`.
SHARDS = int(os.environ.get("SHARDS") or 1)
SHARD = shard_of("default", SHARDS)

#: Shorter than the defaults, so that a scenario has several of each; far enough apart for a busy machine.
TIMINGS = {
    "TASKD_SCHEDULER__SHARDS": str(SHARDS),
    "TASKD_ETCD__TTL": "5",
    "TASKD_SCHEDULER__LEADER_STALE": "6",
    "TASKD_SCHEDULER__LEADER_RENEW": "1.5",
    "TASKD_SCHEDULER__REOFFER_AFTER": "2",
    "TASKD_WORKER__SESSION_TTL": "8",
    "TASKD_WORKER__HEARTBEAT": "2",
    "TASKD_WORKER__GRACE": "8",
    "TASKD_WORKER__STOP_GRACE": "1",
    "TASKD_WORKER__CLAIM_IDLE": "4",
}
SESSION_TTL, GRACE = 8.0, 8.0


def _queue_of(shard: int) -> str:
    names = (f"queue-{number}" for number in count())
    return "default" if shard == SHARD else next(name for name in names if shard_of(name, SHARDS) == shard)


#: The queues of the load: one of each shard.
QUEUES = tuple(_queue_of(shard) for shard in range(SHARDS))
LINKS = ("postgres", "redis", "etcd")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Numbers of processes, load and settings of a scenario, and whether each link runs through a proxy."""

    schedulers: int = 3
    workers: int = 4
    slots: int = 20
    #: Jobs per second; 0 leaves the load to the caller.
    rate: float = 100.0
    #: Queues of the workers besides those of the load.
    queues: tuple[str, ...] = ()
    #: True if triggers record every move. A soak has no audit, since its tables would outgrow the jobs.
    audit: bool = True
    mix: Workload = field(default_factory=Workload)
    #: Module of the workers' tasks.
    app: str = "taskd.torture.tasks"
    #: Minimum of seconds of load.
    load: float = 20.0
    proxied: bool = False
    postgres: Mapping[str, str] = field(default_factory=dict)
    redis: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Bytes of a separate disk for PostgreSQL's data; 0 for the ordinary disk.
    disk: int = 0
