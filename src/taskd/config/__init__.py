"""Live configuration: edited through the API, kept in PostgreSQL, spread by etcd, followed by every process.

PostgreSQL has every version, so an etcd that is wiped loses nothing; the leader's keeper puts the latest one back.
"""

from __future__ import annotations

from taskd.config.editor import ConfigEditor
from taskd.config.follower import follow
from taskd.config.repairer import Repairer

__all__ = ["ConfigEditor", "Repairer", "follow"]
