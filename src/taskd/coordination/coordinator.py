"""The Coordinator on etcd: joins session, election, registry and mutexes behind the seam.

Failures: no property waits for anything. While etcd is away, `health` is not ok and every `line` is empty. All parts retry
about once a second; when etcd is back, even empty, they register, campaign and follow again. Leaving revokes the lease, so
that other processes see it at once; while etcd is away, leaving takes about a second and a half.
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
    and every `line` is empty: if each of a thousand workers followed all the others, etcd would send a million events for
    one change of each.
    """

    def __init__(self, settings: EtcdSettings, *, worker: str | None = None, shards: int = 1) -> None:
        self._prefix = settings.prefix
        self._rhythm = Rhythm.of(settings.ttl, worker=worker is not None)
        self._shards = shards
        self._worker = worker
        self._reach = reach(settings)
        self._notifier = Notifier()
        names = [endpoint.address for endpoint in self._reach[0]]
        self._reachability = Reachability(self._rhythm.patience, names, self._notifier)
        self._parts: _Parts | None = None

    async def __aenter__(self) -> EtcdCoordinator:
        client = EtcdClient(*self._reach)
        session = EtcdSession(client, self._rhythm, self._reachability, self._notifier)
        self._parts = _Parts(self._prefix, client, session, self._notifier, self._worker, self._shards)
        await self._parts.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._running.close()

    @property
    def health(self) -> Health:
        return self._reachability.health

    def line(self, shard: int) -> Sequence[Leader]:
        return self._running.elections[shard].line if self._reachability.health.ok else ()

    async def changed(self) -> None:
        await self._notifier.wait()

    def campaign(self, instance_id: str, holder: UUID, shard: int = 0) -> AbstractAsyncContextManager[Candidacy]:
        return self._running.elections[shard].campaign(instance_id, holder)

    def register(self, member: Callable[[], Member], every: float) -> AbstractAsyncContextManager[None]:
        return self._running.registry.register(member, every)

    def members(self, kind: MemberKind) -> Mapping[str, Member]:
        return self._running.registry.members(kind)

    @property
    def configuration(self) -> Version | None:
        entry = self._running.live.entries.get(self._running.keys.latest)
        return entry.value if entry is not None else None

    async def publish(self, version: Version) -> None:
        await self._running.client.put(self._running.keys.latest, encode(version))

    def lock(
        self, name: str, wait: float | None = None, holder: Holder | None = None
    ) -> AbstractAsyncContextManager[LockHold]:
        return self._running.mutexes.lock(name, wait, holder)

    async def holder(self, name: str) -> Holder | None:
        return await self._running.mutexes.holder(name)

    @property
    def _running(self) -> _Parts:
        if self._parts is None:
            raise RuntimeError("the coordinator runs inside `async with` only")
        return self._parts


class _Parts:
    """The parts that exist only inside the event loop."""

    def __init__(
        self, prefix: str, client: EtcdClient, session: EtcdSession, notifier: Notifier, worker: str | None, shards: int
    ) -> None:
        self._worker = worker
        self.keys = keys = EtcdKeys(prefix)
        self.client = client
        self.session = session
        self.elections = [Election(client, self.session, notifier, keys.election(shard)) for shard in range(shards)]
        seen = keys.members if worker is None else keys.member("worker", worker)
        self.registry = Registry(self.client, self.session, notifier, keys, seen)
        self.live = Mirror(self.client, keys.live, values.version, notifier, kind="live configuration")
        self.mutexes = Mutexes(self.client, self.session, keys)
        self._followers: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        await self.session.open()
        watches: dict[str, Mirror[Any]] = {"registry": self.registry.mirror, "live configuration": self.live}
        if self._worker is None:
            watches |= {f"election {shard}": election.mirror for shard, election in enumerate(self.elections)}
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
