"""The coordinator, etcd: who is alive, who leads. And what a scheduler knows of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from taskd.domain.claim import Term
from taskd.domain.health import Health
from taskd.domain.live import Version
from taskd.domain.situation import Holder

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
    #: Of a worker: attempts that end per second, by queue, once there was time to measure.
    rates: dict[str, float] = {}
    #: Of a worker: the seconds for which its session lasts without a heartbeat; 0 of one that does not say so.
    lease: float = 0.0
    #: Of a worker: the lock that the attempt of a job waits for; and the jobs whose attempts are being stopped.
    waits: dict[int, str] = {}
    stopping: list[int] = []


class Leader(msgspec.Struct, frozen=True):
    """Who holds an election, or waits to, and the create_revision of its key."""

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

    def line(self, shard: int) -> Sequence[Leader]:
        """Who stands for a shard as last seen while etcd answers, in their order: the first one holds the election."""
        ...

    async def changed(self) -> None:
        """Return at the next change of `line`, `health`, `members` or `configuration`."""
        ...

    def campaign(self, instance_id: str, holder: UUID, shard: int = 0) -> AbstractAsyncContextManager[Campaign]:
        """Stand for leader of a shard until the context ends (which withdraws at once)."""
        ...

    def register(self, member: Callable[[], Member], every: float) -> AbstractAsyncContextManager[None]:
        """Show `member()` in the registry until the context ends, refreshed every `every` seconds."""
        ...

    def members(self, kind: MemberKind) -> Mapping[str, Member]:
        """The live processes of a kind by id, as last seen."""
        ...

    @property
    def configuration(self) -> Version | None:
        """The live configuration as etcd has it, as last seen; None if it has none, or one that cannot be used."""
        ...

    async def publish(self, version: Version) -> None:
        """Spread a version of the live configuration. Raises CoordinatorUnavailable."""
        ...

    def lock(
        self, name: str, wait: float | None = None, holder: Holder | None = None
    ) -> AbstractAsyncContextManager[Lock]:
        """Hold the named mutex. Raises CoordinatorUnavailable, or TimeoutError after `wait` seconds.

        `holder` is what others are told of who holds it or waits.
        """
        ...

    async def holder(self, name: str) -> Holder | None:
        """Who holds the named mutex; None if nobody does. Raises CoordinatorUnavailable."""
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
    shards: int

    @property
    def terms(self) -> Mapping[int, Term]:
        """The terms this scheduler leads in, by shard."""
        ...

    def components(self) -> dict[str, Health]:
        """The health of `postgres`, `redis` and `etcd` as this scheduler sees them. Costs no round trip."""
        ...
