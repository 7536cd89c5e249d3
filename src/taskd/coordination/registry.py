"""The registry: each scheduler and worker keeps one key, under its session's lease, and follows the others' keys.

Limits: a process that dies stays visible until its lease expires. While etcd is away, the members are those last seen. If
two live processes have one id, the later one is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec

from taskd.coordination import values
from taskd.coordination.client import EtcdClient
from taskd.coordination.keys import EtcdKeys
from taskd.coordination.mirror import Mirror
from taskd.coordination.notifier import Notifier
from taskd.coordination.persistent_key import PersistentKey
from taskd.coordination.session import EtcdSession
from taskd.seams import Member, MemberKind


class Registry:
    """Follows the members in a folder, all or one, and registers this process."""

    def __init__(
        self, client: EtcdClient, session: EtcdSession, notifier: Notifier, keys: EtcdKeys, folder: str
    ) -> None:
        self.mirror: Mirror[Member] = Mirror(client, folder, values.member, notifier, session, kind="member")
        self._client = client
        self._session = session
        self._notifier = notifier
        self._keys = keys

    def members(self, kind: MemberKind) -> dict[str, Member]:
        """Return the members of a kind by id, as last seen."""
        entries = sorted(self.mirror.entries.values(), key=lambda entry: entry.create_revision)
        return {entry.value.id: entry.value for entry in entries if entry.value.kind == kind}

    def register(self, member: Callable[[], Member], every: float) -> AbstractAsyncContextManager[None]:
        """Show `member()` until the context ends. It is called each `every` seconds, and written if it changed."""
        if every <= 0:
            raise ValueError("`every` must be more than 0 seconds")

        def folder() -> str:
            shown = member()
            return self._keys.member(shown.kind, shown.id)

        def value() -> bytes:
            return msgspec.json.encode(member())

        return PersistentKey(self._client, self._session, self.mirror, self._notifier, folder, value, every).standing()
