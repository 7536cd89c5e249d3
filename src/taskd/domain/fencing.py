"""The rights that fence every write: a Term to lead, a Session to work, a Claim to run one attempt of one job."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from taskd.domain.job import Json, Scalar
from taskd.domain.policy import Policy, Record
from taskd.domain.shard import shard_of


class Term(msgspec.Struct, frozen=True):
    """One leadership, of one of so many shards. PostgreSQL mints the epoch; every leader statement demands that it is still the
    shard's current one.
    """

    epoch: int
    holder: UUID
    shard: int = 0
    shards: int = 1

    def owns(self, queue: str) -> bool:
        """Whether the queue is one of this term's shard."""
        return shard_of(queue, self.shards) == self.shard


class LeaderRow(msgspec.Struct, frozen=True, kw_only=True):
    """A shard's row of leader as PostgreSQL shows it; `age` is seconds since the last renewal, by PostgreSQL's clock."""

    shard: int = 0
    epoch: int
    holder: UUID | None
    instance_id: str
    etcd_revision: int
    age: float
    dispatched: int = 0
    last_dispatch: datetime | None = None


class Dispatch(msgspec.Struct, frozen=True):
    """The right to claim one job once: what travels in the stream entry."""

    job_id: int
    seq: int
    queue: str
    priority: int


class Delivery(msgspec.Struct, frozen=True):
    """A Dispatch as a worker received it: `stream` and `entry` are what the transport needs to settle it."""

    job_id: int
    seq: int
    stream: str
    entry: str


class Suspect(msgspec.Struct, frozen=True):
    """A Delivery of a job that only runs alone; `waited` is seconds since its last attempt ended."""

    delivery: Delivery
    queue: str
    losses: int
    waited: float


class Host(msgspec.Struct, frozen=True):
    """Where a process runs, precise enough to tell whether it is gone.

    `boot` is the boot id with the pid namespace; `started` is the process's start time in clock ticks since that boot.
    """

    name: str
    boot: str
    pid: int
    started: int


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation of one worker. While it lives, its claims are its own; once dead it never revives."""

    id: UUID
    worker_id: str
    host: Host
    queues: tuple[str, ...]
    slots: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The right to run one attempt of one job: `(job_id, attempt, session)` is the fence that settling demands.

    `epoch` is that of the queue's shard when the claim was made: it says under whom, and fences nothing.
    """

    job_id: int
    attempt: int
    session: UUID
    epoch: int
    task: str
    queue: str
    priority: int
    payload: Json
    created_at: datetime
    schedule_at: datetime
    queued_at: datetime
    started_at: datetime
    timeout: float | None
    metadata: dict[str, Scalar]
    policy: Policy
    record: Record
    checkpoint: Json | None = None


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a running attempt says of itself, as JSON, under its claim's fence; what is None stays as it was."""

    job_id: int
    attempt: int
    session: UUID
    progress: bytes | None = None
    checkpoint: bytes | None = None
