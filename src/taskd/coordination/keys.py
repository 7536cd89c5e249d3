"""The keys of taskd in etcd. Everything lies under the setting `etcd.prefix` (here /taskd):

    /taskd/election/LEASE-N            one candidacy: {"instance_id": ..., "holder": ...}; the oldest one leads shard 0
    /taskd/elections/SHARD/LEASE-N     the same for every other shard
    /taskd/members/KIND/ID/LEASE-N     one live scheduler or worker: a Member as JSON
    /taskd/locks/NAME/LEASE-N          a holder of a lock, or a candidate for it; the oldest one holds
    /taskd/live/latest                 the live configuration: its latest Version as JSON
    /taskd/fence                       the start of the fences of locks: Unix time in microseconds at its first use

KIND is `scheduler` or `worker`; ID and NAME are percent-encoded, so a slash in them starts no folder of its own.
LEASE is the lease of the session that put the key (16 hexadecimal digits), N counts that session's keys: no key is ever
used twice, so one process cannot delete what another wrote. Every key but `fence` and `live` vanishes with its lease.
"Oldest" always means the lowest create_revision.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from taskd.seams import MemberKind


class EtcdKeys:
    """The key schema under one prefix. Folders end with a slash."""

    def __init__(self, prefix: str) -> None:
        root = prefix.rstrip("/")
        self.members = f"{root}/members/"
        self.fence = f"{root}/fence"
        self.live = f"{root}/live/"
        self.latest = f"{root}/live/latest"
        self._locks = f"{root}/locks/"
        self._root = root

    def election(self, shard: int) -> str:
        """Return the folder of a shard's candidates. That of shard 0 is older than shards, hence its name."""
        return f"{self._root}/elections/{shard}/" if shard else f"{self._root}/election/"

    def member(self, kind: MemberKind, member_id: str) -> str:
        """Return the folder of one member's key."""
        return f"{self.members}{kind}/{quote(member_id, safe='')}/"

    def lock(self, name: str) -> str:
        """Return the folder of a lock's holder and candidates."""
        return f"{self._locks}{quote(name, safe='')}/"


_OF_SESSION = re.compile(r"[0-9a-f]{16}-[1-9][0-9]{0,18}")


def own(folder: str, lease: int, number: int) -> str:
    """Return the key with this number of a session."""
    return f"{folder}{lease:016x}-{number}"


def of_session(key: str, lease: int) -> bool:
    """Return True for a key with a session's form of name, whose lease is the one that it vanishes with."""
    return _OF_SESSION.fullmatch(key.rpartition("/")[2]) is not None and belongs(key, lease)


def belongs(key: str, lease: int) -> bool:
    """Return True if the key is one of that session."""
    return key.rpartition("/")[2].startswith(f"{lease:016x}-")
