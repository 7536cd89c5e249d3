"""The live configuration: values that an operator changes while everything runs.

Limits: known keys only, each with a rule (`domain/config.py`); at most one change at a time becomes the next version. A
change is seen by every process within about a second while etcd answers, and within 30 s without it.

Model: PostgreSQL keeps every version as a whole set of values. `ConfigEditor` checks a change, appends a version on top of
the one it read, and spreads it through etcd. Each process runs `follow` and keeps the last good version in
`runtime.config.Config`, which calls its listeners. The leader's `Repairer` compares etcd's copy with PostgreSQL's.

Failures: two changes at once both take effect, since the second is made again on top of the first. An etcd that is wiped, or
written to by another program, is put right by the leader. While PostgreSQL is away, processes keep what they have, and take
newer versions from etcd.
"""

from __future__ import annotations

from taskd.config.editor import ConfigEditor
from taskd.config.follower import follow
from taskd.config.repairer import Repairer

__all__ = ["ConfigEditor", "Repairer", "follow"]
