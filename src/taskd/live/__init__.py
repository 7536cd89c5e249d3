"""Live configuration: edited through the API, kept in PostgreSQL, spread by etcd, followed by every process.

PostgreSQL has every version, so an etcd that is wiped loses nothing; the leader's keeper puts the latest one back.
"""

from __future__ import annotations

from taskd.live.editor import Editor
from taskd.live.follower import follow
from taskd.live.keeper import Keeper

__all__ = ["Editor", "Keeper", "follow"]
