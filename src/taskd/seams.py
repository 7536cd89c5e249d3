"""Where the rooms meet: one Protocol per caller, so that swapping a server touches one room.

PostgreSQL implements the store's seams (`taskd.store`), Redis the Transport (`taskd.transport`), etcd the Coordinator
(`taskd.coordination`). Every method raises the matching `Unavailable` within its deadline when its server does not answer;
none retries on its own. Times are seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

import msgspec

from taskd.domain.band import Band, Credit
from taskd.domain.claim import Claim, Delivery, Dispatch, Leadership, Session, Term
from taskd.domain.health import Health as Health  # noqa: PLC0414  the form that marks a re-export
from taskd.domain.job import Counts, Job, JobFilter, JobSpec, QueueDepth, Submitted
from taskd.domain.outcome import Outcome
from taskd.domain.retry import Verdict

# ---------------------------------------------------------------- the store: PostgreSQL


class Intake(Protocol):
    """For the API: jobs come in."""

    async def submit(self, spec: JobSpec) -> Submitted:
        """Store one job durably, sharing its INSERT with whatever else is waiting.

        Raises StoreUnavailable within the deadline, Rejected if PostgreSQL refuses this very job.
        """
        ...

    async def submit_many(self, specs: Sequence[JobSpec]) -> list[Submitted]:
        """Store all of `specs` durably, or none; the answers are in the order of the specs."""
        ...


class Overview(Protocol):
    """For the API: what there is to see. Reads only."""

    async def ping(self) -> None:
        """Return if PostgreSQL answers."""
        ...

    async def job(self, job_id: int) -> Job | None:
        """One job, live or finished, with its attempts; None if there is none."""
        ...

    async def jobs(self, wanted: JobFilter) -> list[Job]:
        """A page of jobs, newest first, without their attempts."""
        ...

    async def final(self, job_ids: Collection[int]) -> set[int]:
        """Those of `job_ids` that are final by now or do not exist: nobody needs to wait for them any longer."""
        ...

    async def counts(self) -> Counts:
        """The cluster's counters."""
        ...

    async def depths(self) -> list[QueueDepth]:
        """The live jobs of each queue."""
        ...

    async def sessions(self) -> list[Session]:
        """The sessions of the workers that are alive by PostgreSQL's clock."""
        ...


class Terms(Protocol):
    """For elections: who leads, as PostgreSQL sees it. It mints the epochs."""

    async def current(self) -> Leadership:
        """The leader row."""
        ...

    async def take_over(
        self, holder: UUID, instance_id: str, etcd_revision: int | None, stale_after: float
    ) -> Term | None:
        """Become leader with the next epoch, or None if that is not allowed.

        Allowed when `etcd_revision` (the create_revision with which the election was won) is higher than the row's, or when
        the row was not renewed for `stale_after` seconds. A lock that a paused predecessor holds is broken.
        """
        ...

    async def renew(self, term: Term, dispatched: int) -> None:
        """Extend the term and add `dispatched` jobs to the leader's count. Raises NotLeader when the term is over."""
        ...

    async def resign(self, term: Term) -> None:
        """Let anybody take over at once. Does nothing if the term is already over."""
        ...


class DueBatch(msgspec.Struct, frozen=True):
    """What one dispatch statement moved, and when the next job becomes due (seconds from now; None: none is waiting)."""

    dispatches: list[Dispatch]
    next_due: float | None


class DueJobs(Protocol):
    """For the leader's dispatcher."""

    async def dispatch(self, term: Term, credit: Sequence[Credit], ageing: float) -> DueBatch:
        """pending -> queued for the best due jobs, as many as the credit of their queue and band allows. Raises NotLeader.

        Best: by effective priority (priority plus one per `ageing` seconds of waiting), then schedule_at, then id.
        """
        ...

    async def unclaimed(self, after: float, limit: int) -> list[Dispatch]:
        """Jobs queued for more than `after` seconds that nobody claimed, oldest first."""
        ...

    async def reoffer(self, term: Term, lost: Sequence[Dispatch]) -> int:
        """queued -> pending for those dispatches that are still current; how many were. Raises NotLeader."""
        ...


class Reaped(msgspec.Struct, frozen=True):
    """How many jobs of dead sessions went back to pending, and how many failed because they had lost too many workers."""

    restarted: int
    failed: int


class Upkeep(Protocol):
    """For the leader's reaper."""

    async def end_expired(self, term: Term, before: datetime | None) -> tuple[list[str], datetime]:
        """End the sessions whose lease ran out `before` then; their workers' ids, and the `before` for the next call.

        The times are PostgreSQL's. None ends nothing: the first call of a term, or after a gap, only asks for the time.
        Raises NotLeader.
        """
        ...

    async def free_jobs(self, term: Term, loss_limit: int) -> Reaped:
        """Free the running jobs of ended sessions. Raises NotLeader."""
        ...

    async def forget_sessions(self, term: Term) -> None:
        """Delete what is left of sessions that ended long ago."""
        ...


class Claims(Protocol):
    """For workers: the right to run, and its end."""

    async def claim(self, session: Session, deliveries: Sequence[Delivery], *, again: bool = False) -> list[Claim]:
        """queued -> running for those deliveries that are current. Raises SessionLost if the session is over.

        `again` says that this was tried before and the answer was lost: claims that it made come back as well.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> set[tuple[int, int]]:
        """Record how attempts ended; the (job_id, attempt) pairs that were still the claim's own.

        What is missing from the answer was fenced off: the claim had been lost before.
        """
        ...


class Settlement(msgspec.Struct, frozen=True):
    """One attempt's end: what happened, and what follows."""

    claim: Claim
    outcome: Outcome
    verdict: Verdict


class Sessions(Protocol):
    """For workers: staying alive in PostgreSQL's eyes."""

    async def open(self, session: Session, ttl: float) -> bool:
        """Begin a session; False if another one holds the worker's id."""
        ...

    async def holder(self, worker_id: str) -> tuple[Session, float] | None:
        """The session that holds this worker id and its lease's remaining seconds; None if the id is free."""
        ...

    async def heartbeat(self, session: Session, ttl: float, claims: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        """Extend the lease; those of the given (job_id, attempt) claims that are no longer this session's.

        Raises SessionLost if the session is dead.
        """
        ...

    async def end(self, session_id: UUID) -> bool:
        """End a session that is over (drained, or its process is gone); False if it already was.

        The leader frees what jobs it still has.
        """
        ...


# ---------------------------------------------------------------- the transport: Redis Streams


class LeaderView(msgspec.Struct, frozen=True):
    """What the leader tells workers of its own connection: semantics.md's "when may a worker outlive its lease?"."""

    epoch: int
    postgres: bool


class Transport(Protocol):
    """The doorbell. Whatever it holds may vanish or be repeated at any instant."""

    async def ping(self) -> None:
        """Return if Redis answers and takes writes."""
        ...

    async def ring(self, dispatches: Sequence[Dispatch]) -> None:
        """Announce dispatches, in their order."""
        ...

    async def depths(self, queues: Collection[str]) -> dict[tuple[str, Band], int]:
        """How many announced and undecided entries each queue and band has."""
        ...

    async def missing(self, dispatches: Sequence[Dispatch]) -> list[Dispatch]:
        """Those of `dispatches` that no worker will ever be given (entries that nobody holds are removed)."""
        ...

    async def wiped(self) -> bool:
        """True once after Redis lost its memory (and at first sight of an empty one)."""
        ...

    async def wake(self) -> None:
        """Tell the leader, wherever it runs, that there may be work to dispatch. Best effort."""
        ...

    def wakes(self) -> AsyncIterator[None]:
        """One item per wake (and one after every reconnect, since wakes may have been missed). Never ends, never raises."""
        ...

    async def publish_view(self, view: LeaderView, ttl: float) -> None:
        """Tell workers what the leader sees, for `ttl` seconds; a view of a later epoch stays."""
        ...

    async def view(self) -> LeaderView | None:
        """What the leader published, or None if that has run out."""
        ...

    async def fetch(self, queues: Sequence[str], slots: int, block: float) -> list[Delivery]:
        """At most `slots` deliveries, urgent bands first; waits up to `block` seconds for the first."""
        ...

    async def decided(self, deliveries: Sequence[Delivery]) -> None:
        """The claims of these were decided (won or refused): forget their entries."""
        ...

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Announce these again, for somebody else to take."""
        ...

    async def adopt(self, queues: Sequence[str], slots: int, idle: float) -> list[Delivery]:
        """Deliveries whose worker left them undecided for `idle` seconds, now ours."""
        ...

    async def leave(self, queues: Sequence[str]) -> None:
        """Forget this consumer where it holds nothing."""
        ...


# ---------------------------------------------------------------- the coordinator: etcd

MemberKind = Literal["scheduler", "worker"]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One live process as the registry shows it. `stats` are its own figures, refreshed every few seconds."""

    kind: MemberKind
    id: str
    incarnation: UUID
    address: str
    host: str
    pid: int
    started_at: float
    queues: list[str] = []
    slots: int = 0
    tasks: list[str] = []
    stats: dict[str, float] = {}


class Leader(msgspec.Struct, frozen=True):
    """Who holds the election, and the create_revision of its key."""

    instance_id: str
    holder: UUID
    revision: int


class Lock(Protocol):
    """A held mutex. `fence` goes up with each holder of the name, so that a resource can refuse an older one."""

    fence: int

    @property
    def held(self) -> bool:
        """False as soon as the hold can no longer be relied on, by the local monotonic clock."""
        ...


class Coordinator(Protocol):
    """Who is alive, who leads. Everything here may be gone for a while; taskd then goes on without it.

    Runs in the background from `async with`; reconnects and re-registers by itself.
    """

    async def __aenter__(self) -> Coordinator: ...

    async def __aexit__(self, *exc: object) -> None: ...

    @property
    def health(self) -> Health:
        """Whether etcd answers this process at present. Costs no round trip."""
        ...

    @property
    def leader(self) -> Leader | None:
        """Who holds the election as last seen while etcd answers; None if nobody does or etcd is away."""
        ...

    async def changed(self) -> None:
        """Return at the next change of `leader`, `health` or `members`."""
        ...

    def campaign(self, instance_id: str, holder: UUID) -> AbstractAsyncContextManager[Campaign]:
        """Stand for leader until the context ends (which withdraws at once)."""
        ...

    def register(self, member: Callable[[], Member], every: float) -> AbstractAsyncContextManager[None]:
        """Show `member()` in the registry until the context ends, refreshed every `every` seconds."""
        ...

    def members(self, kind: MemberKind) -> Mapping[str, Member]:
        """The live processes of a kind by id, as last seen."""
        ...

    def lock(self, name: str, wait: float | None = None) -> AbstractAsyncContextManager[Lock]:
        """Hold the named mutex. Raises CoordinatorUnavailable, or TimeoutError after `wait` seconds."""
        ...


class Campaign(Protocol):
    """A candidacy. It is won while our key is the oldest and our lease is certainly alive."""

    @property
    def won(self) -> int | None:
        """Our create_revision while we hold the election, else None."""
        ...


class Standing(Protocol):
    """For the API: what this scheduler knows of itself."""

    instance_id: str

    @property
    def term(self) -> Term | None:
        """The term this scheduler leads in, or None."""
        ...

    def components(self) -> dict[str, Health]:
        """The health of `postgres`, `redis` and `etcd` as this scheduler sees them. Costs no round trip."""
        ...


# ---------------------------------------------------------------- tasks: what an executor runs


class Invocation(Protocol):
    """One attempt, ready to run: arguments checked, context bound."""

    asynchronous: bool

    def __call__(self) -> Any:
        """Run the task: a coroutine if `asynchronous`, else the result itself (call it in a thread)."""
        ...


class Tasks(Protocol):
    """A task author's App, as the executor needs it."""

    @property
    def names(self) -> Collection[str]:
        """The tasks there are."""
        ...

    @property
    def timeouts(self) -> Mapping[str, float]:
        """The time-outs (seconds) of the tasks whose definition has one; a job's own comes before it."""
        ...

    def prepare(self, order: Order) -> Invocation:
        """Bind the order to its task. Raises LookupError for an unknown task, Fail for a payload that does not fit."""
        ...


class Order(msgspec.Struct, frozen=True, array_like=True):
    """What a worker tells an executor about one attempt: everything `ctx.job` and `ctx.attempt` show."""

    job_id: int
    attempt: int
    task: str
    queue: str
    priority: int
    payload: bytes
    created_at: datetime
    schedule_at: datetime
    timeout: float | None
    metadata: dict[str, str | int | float | bool | None]
    max_retries: int
    failures: int
    worker_id: str
    #: It was there when an executor crashed: it runs without neighbours now, so that the next crash shows whose fault it is.
    suspect: bool = False
