"""The rights that fence every write: a Term to lead, a Session to work, a Claim to run one attempt of one job."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from taskd.domain.job import AttemptId, JobInfo
from taskd.domain.policy import Backoff, Policy, Record
from taskd.domain.shard import shard_of


class Term(msgspec.Struct, frozen=True):
    """One leadership of one shard. PostgreSQL gives the epoch; every statement of a leader demands that it is still the shard's
    current one.
    """

    epoch: int
    holder: UUID
    shard: int = 0
    shards: int = 1

    def owns(self, queue: str) -> bool:
        """Return whether the queue belongs to this term's shard."""
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
    """The right to claim one job once. A stream entry carries it."""

    job_id: int
    seq: int
    queue: str
    priority: int


class Delivery(msgspec.Struct, frozen=True):
    """A Dispatch as a worker received it. The transport removes it by `stream` and `entry`."""

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
    """The place where a process runs, precise enough to find out whether it is gone.

    `boot` is the boot id with the pid namespace; `started` is the process's start time in clock ticks since that boot.
    """

    name: str
    boot: str
    pid: int
    started: int


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One incarnation of one worker. While it lives, its claims are its own. Once it is over it never revives."""

    id: UUID
    worker_id: str
    host: Host
    queues: tuple[str, ...]
    slots: int


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The right to run one attempt of one job: `(job_id, attempt, session)` is the fence that settling demands.

    `epoch` is that of the queue's shard when the claim was made: it names the leader, and fences nothing.
    """

    #: Kept as one value: it is the key of the attempt wherever the worker looks it up.
    attempt_id: AttemptId
    job: JobInfo
    session: UUID
    epoch: int
    queued_at: datetime
    started_at: datetime
    backoff: Backoff = Backoff()
    crashes: int = 0
    losses: int = 0
    #: The last checkpoint of the job's earlier attempts (JSON).
    checkpoint: bytes | None = None

    @property
    def job_id(self) -> int:
        """The job's id."""
        return self.attempt_id.job_id

    @property
    def attempt(self) -> int:
        """The attempt's number."""
        return self.attempt_id.attempt

    @property
    def policy(self) -> Policy:
        """The job's limits for retries."""
        return Policy(self.job.max_retries, self.backoff)

    @property
    def record(self) -> Record:
        """The job's earlier attempts, counted by how they ended."""
        return Record(self.job.failures, self.crashes, self.losses)


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A running attempt's progress and checkpoint (JSON), under its claim's fence. A value of None stays as it was."""

    job_id: int
    attempt: int
    session: UUID
    progress: bytes | None = None
    checkpoint: bytes | None = None
