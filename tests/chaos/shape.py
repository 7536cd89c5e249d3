"""What a scenario needs: how many of what, how much load, by which timings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from taskd.domain.shard import shard_of
from taskd.torture.workload import Workload

#: How many shards every scenario has. "The leader" is that of queue `default`.
SHARDS = int(os.environ.get("SHARDS") or 1)
SHARD = shard_of("default", SHARDS)

#: Shorter than the defaults, so that a scenario sees several of each; far enough apart for a busy machine.
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
    """What a scenario needs: how many of what, how much load, and whether each link runs through a proxy."""

    schedulers: int = 3
    workers: int = 4
    slots: int = 20
    #: Jobs per second; 0 leaves the load to the caller.
    rate: float = 100.0
    #: What the workers serve besides the queues of the load.
    queues: tuple[str, ...] = ()
    #: Whether triggers record every move. A soak does without: the trail would outgrow the jobs.
    audit: bool = True
    mix: Workload = field(default_factory=Workload)
    #: The tasks that the workers load.
    app: str = "taskd.torture.tasks"
    #: Seconds of load at least.
    load: float = 20.0
    proxied: bool = False
    postgres: Mapping[str, str] = field(default_factory=dict)
    redis: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    #: PostgreSQL's data lie on a disk of so many bytes; 0: on the ordinary one.
    disk: int = 0
