"""The coordinator, etcd: live processes, elections, locks. And a scheduler's own state, for the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Literal, Protocol
from uuid import UUID

import msgspec
from msgspec import Meta

from taskd.domain.config import Version
from taskd.domain.explain.situation import Holder
from taskd.domain.fencing import Term
from taskd.domain.health import Health

MemberKind = Literal["scheduler", "worker"]

# Any program may write into etcd, so values are bounded where they are read. The bounds are far above what taskd writes.
#: A name without control characters.
Text = Annotated[str, Meta(max_length=500, pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z")]
#: A number that PostgreSQL and every JSON encoder can hold.
Identifier = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Names = Annotated[list[Text], Meta(max_length=10_000)]
Figure = Annotated[float, Meta(ge=-1e15, le=1e15)]
#: Unix seconds, up to the end of the year 9998.
Moment = Annotated[float, Meta(ge=0, le=253_370_764_800)]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One live process as the registry shows it. `stats` are its figures, refreshed every few seconds."""

    kind: MemberKind
    id: Text
    incarnation: UUID
    address: Text
    host: Text
    pid: Annotated[int, Meta(ge=0, le=2**32)]
    started_at: Moment
    queues: Names = []
    slots: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    tasks: Names = []
    stats: Annotated[dict[Text, Figure], Meta(max_length=1000)] = {}
    #: Of a worker: attempts that end per second, by queue, once they are measured.
    rates: Annotated[dict[Text, Annotated[float, Meta(ge=0, le=1e9)]], Meta(max_length=10_000)] = {}
    #: Of a worker: the seconds for which its session lasts without a heartbeat; 0 of one that does not say so.
    lease: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    #: Of a worker: the lock that the attempt of a job waits for; and the jobs whose attempts are being stopped.
    waits: Annotated[dict[Identifier, Annotated[str, Meta(max_length=2000)]], Meta(max_length=1_000_000)] = {}
    stopping: Annotated[list[Identifier], Meta(max_length=1_000_000)] = []


class Leader(msgspec.Struct, frozen=True):
    """A candidate for an election, the leader or one in line, with the create_revision of its key."""

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
    """Live processes, elections and locks. All of it may be away for a while; taskd then goes on without it.

    Runs in the background inside `async with`; reconnects and registers again by itself.
    """

    async def __aenter__(self) -> Coordinator: ...

    async def __aexit__(self, *exc: object) -> None: ...

    @property
    def health(self) -> Health:
        """The state of etcd as this process sees it. Costs no round trip."""
        ...

    def line(self, shard: int) -> Sequence[Leader]:
        """Return the candidates for a shard, the leader first, as last seen; empty while etcd is away."""
        ...

    async def changed(self) -> None:
        """Return at the next change of `line`, `health`, `members` or `configuration`."""
        ...

    def campaign(self, instance_id: str, holder: UUID, shard: int = 0) -> AbstractAsyncContextManager[Campaign]:
        """Be a candidate for a shard until the context ends, which withdraws at once."""
        ...

    def register(self, member: Callable[[], Member], every: float) -> AbstractAsyncContextManager[None]:
        """Show `member()` in the registry until the context ends, refreshed every `every` seconds."""
        ...

    def members(self, kind: MemberKind) -> Mapping[str, Member]:
        """Return the live processes of a kind by id, as last seen."""
        ...

    @property
    def configuration(self) -> Version | None:
        """etcd's copy of the live configuration, as last seen; None if there is none, or it is not valid."""
        ...

    async def publish(self, version: Version) -> None:
        """Spread a version of the live configuration. Raises CoordinatorUnavailable."""
        ...

    def lock(
        self, name: str, wait: float | None = None, holder: Holder | None = None
    ) -> AbstractAsyncContextManager[Lock]:
        """Hold the named mutex. Raises CoordinatorUnavailable, or TimeoutError after `wait` seconds.

        `holder` describes this holder, or candidate, to other processes.
        """
        ...

    async def holder(self, name: str) -> Holder | None:
        """Return the holder of the named mutex, or None. Raises CoordinatorUnavailable."""
        ...


class Campaign(Protocol):
    """A candidacy. It is won while its key is the oldest and its lease is certainly alive."""

    @property
    def won(self) -> int | None:
        """The create_revision of the candidacy's key while it is won, else None."""
        ...


class Standing(Protocol):
    """The state of this scheduler, for the API."""

    instance_id: str
    shards: int

    @property
    def terms(self) -> Mapping[int, Term]:
        """The terms this scheduler leads in, by shard."""
        ...

    def components(self) -> dict[str, Health]:
        """Return the health of `postgres`, `redis` and `etcd` as this scheduler sees them. Costs no round trip."""
        ...
