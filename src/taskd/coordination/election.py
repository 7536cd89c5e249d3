"""Elections: the candidate whose key is the oldest leads.

Guarantees: while one history of etcd lasts, at most one candidacy is won at a time, as far as the clocks of two machines
run at about the same rate. It is won while its key is the oldest that was seen and its lease is certainly alive by the local
clock; neither needs etcd at that moment. A copy that lags cannot mislead: keys older than one's own can only vanish.
Limits: when etcd's data is wiped, two candidacies may be won for up to ttl/4 (the old one until its next renewal): the epoch
that PostgreSQL mints fences a leader's writes.

The idea is that of the election recipe in etcd's `concurrency` package.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec

from taskd.coordination import values
from taskd.coordination.client import EtcdClient
from taskd.coordination.mirror import Entry, Mirror
from taskd.coordination.notifier import Notifier
from taskd.coordination.persistent_key import PersistentKey
from taskd.coordination.session import EtcdSession
from taskd.coordination.values import Candidate
from taskd.seams import Leader


class Election:
    """Follows the candidates of one shard, and runs this process's candidacy."""

    def __init__(self, client: EtcdClient, session: EtcdSession, notifier: Notifier, folder: str) -> None:
        self.mirror: Mirror[Candidate] = Mirror(client, folder, values.candidate, notifier, session, kind="candidacy")
        self._client = client
        self._session = session
        self._notifier = notifier
        self._folder = folder

    @property
    def line(self) -> list[Leader]:
        """The candidates in their order, the leader first; empty while the watch is broken."""
        entries = self.mirror.entries.values() if self.mirror.synced else ()
        return [
            Leader(entry.value.instance_id, entry.value.holder, entry.create_revision)
            for entry in sorted(entries, key=lambda entry: entry.create_revision)
        ]

    def first(self) -> Entry[Candidate] | None:
        """Return the oldest candidacy that was seen."""
        return min(self.mirror.entries.values(), key=lambda entry: entry.create_revision, default=None)

    @asynccontextmanager
    async def campaign(self, instance_id: str, holder: UUID) -> AsyncIterator[Candidacy]:
        """Be a candidate until the context ends."""
        value = msgspec.json.encode(Candidate(instance_id, holder))
        candidacy = PersistentKey(
            self._client, self._session, self.mirror, self._notifier, folder=lambda: self._folder, value=lambda: value
        )
        async with candidacy.standing():
            yield Candidacy(self, candidacy)


class Candidacy:
    """Implements `taskd.seams.Campaign`: this process's candidacy."""

    def __init__(self, election: Election, key: PersistentKey) -> None:
        self._election = election
        self._key = key

    @property
    def won(self) -> int | None:
        place, first = self._key.place, self._election.first()
        return place.revision if place is not None and first is not None and first.key == place.key else None
