"""The Coordinator on etcd: joins session, election, registry and mutexes behind the seam.

Failure handling: no call of a property waits for anything. While etcd is away `health` is not ok and there is no `leader`;
everything tries on about once a second, and registers, stands and follows again by itself when etcd is back, even empty.
Leaving revokes the lease, so that others see it at once; if etcd is away, leaving takes about a second and a half.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

from taskd.coordination import values
from taskd.coordination.client import EtcdClient
from taskd.coordination.election import Candidacy, Election
from taskd.coordination.endpoints import reach
from taskd.coordination.keys import EtcdKeys
from taskd.coordination.mirror import Mirror
from taskd.coordination.mutex import LockHold, Mutexes
from taskd.coordination.notifier import Notifier
from taskd.coordination.reachability import Reachability
from taskd.coordination.registry import Registry
from taskd.coordination.session import EtcdSession, Rhythm
from taskd.domain.config import Version, encode
from taskd.domain.explain.situation import Holder
from taskd.runtime.duty import end, forever
from taskd.seams import Health, Leader, Member, MemberKind
from taskd.settings import EtcdSettings


class EtcdCoordinator:
    """`taskd.seams.Coordinator` on etcd. Raises ConfigurationError for endpoints that cannot be used.

    There is an election for each of the `shards`. With `worker`, a worker's id, no other member and no candidate is followed,
    and every `line` is empty: if each of a thousand workers heard of each change of all the others, etcd would tell a million
    things where one is new.
    """

    def __init__(self, settings: EtcdSettings, *, worker: str | None = None, shards: int = 1) -> None:
        self._prefix = settings.prefix
        self._rhythm = Rhythm.of(settings.ttl, worker=worker is not None)
        self._shards = shards
        self._worker = worker
        self._reach = reach(settings)
        self._bell = Notifier()
        names = [endpoint.address for endpoint in self._reach[0]]
        self._pulse = Reachability(self._rhythm.patience, names, self._bell)
        self._parts: _Parts | None = None

    async def __aenter__(self) -> EtcdCoordinator:
        client = EtcdClient(*self._reach)
        session = EtcdSession(client, self._rhythm, self._pulse, self._bell)
        self._parts = _Parts(self._prefix, client, session, self._bell, self._worker, self._shards)
        await self._parts.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._running.close()

    @property
    def health(self) -> Health:
        """Whether etcd answers this process at present."""
        return self._pulse.health

    def line(self, shard: int) -> Sequence[Leader]:
        """Who stands for a shard as last seen while etcd answers, in their order: the first one holds the election."""
        return self._running.elections[shard].line if self._pulse.health.ok else ()

    async def changed(self) -> None:
        """Return at the next change of `line`, `health`, `members` or of a campaign of ours."""
        await self._bell.wait()

    def campaign(self, instance_id: str, holder: UUID, shard: int = 0) -> AbstractAsyncContextManager[Candidacy]:
        """Stand for leader of a shard until the context ends (which withdraws at once)."""
        return self._running.elections[shard].campaign(instance_id, holder)

    def register(self, member: Callable[[], Member], every: float) -> AbstractAsyncContextManager[None]:
        """Show `member()` in the registry until the context ends, refreshed every `every` seconds."""
        return self._running.registry.register(member, every)

    def members(self, kind: MemberKind) -> Mapping[str, Member]:
        """The live processes of a kind by id, as last seen."""
        return self._running.registry.members(kind)

    @property
    def configuration(self) -> Version | None:
        """The live configuration as etcd has it, as last seen; None if it has none, or one that cannot be used."""
        found = self._running.live.entries.get(self._running.keys.latest)
        return found.value if found is not None else None

    async def publish(self, version: Version) -> None:
        """Spread a version of the live configuration. Raises CoordinatorUnavailable."""
        await self._running.client.put(self._running.keys.latest, encode(version))

    def lock(
        self, name: str, wait: float | None = None, holder: Holder | None = None
    ) -> AbstractAsyncContextManager[LockHold]:
        """Hold the named mutex. Raises CoordinatorUnavailable, or TimeoutError after `wait` seconds."""
        return self._running.mutexes.lock(name, wait, holder)

    async def holder(self, name: str) -> Holder | None:
        """Who holds the named mutex; None if nobody does. Raises CoordinatorUnavailable."""
        return await self._running.mutexes.holder(name)

    @property
    def _running(self) -> _Parts:
        if self._parts is None:
            raise RuntimeError("the coordinator runs inside `async with` only")
        return self._parts


class _Parts:
    """What exists only inside the event loop."""

    def __init__(
        self, prefix: str, client: EtcdClient, session: EtcdSession, bell: Notifier, worker: str | None, shards: int
    ) -> None:
        self._worker = worker
        self.keys = keys = EtcdKeys(prefix)
        self.client = client
        self.session = session
        self.elections = [Election(client, self.session, bell, keys.election(shard)) for shard in range(shards)]
        seen = keys.members if worker is None else keys.member("worker", worker)
        self.registry = Registry(self.client, self.session, bell, keys, seen)
        self.live = Mirror(self.client, keys.live, values.version, bell, kind="live configuration")
        self.mutexes = Mutexes(self.client, self.session, keys)
        self._followers: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        await self.session.open()
        watches: dict[str, Mirror[Any]] = {"registry": self.registry.mirror, "live configuration": self.live}
        if self._worker is None:
            watches |= {f"election {shard}": one.mirror for shard, one in enumerate(self.elections)}
        self._followers = [
            asyncio.create_task(forever(f"{name} watch", mirror.follow)) for name, mirror in watches.items()
        ]

    async def close(self) -> None:
        try:
            await self.session.close()
            for follower in self._followers:
                await end(follower)
        finally:
            await self.client.close()
