"""etcd: who is alive, who leads, who holds a named lock.

Model: one `session` (a lease) per process; all its keys hang on it. Everybody follows the keys of candidates and members in
local copies (`mirror`), so looking costs no round trip. `post` keeps one key standing, `election` and `registry` are two
uses of it, `mutex` queues up by the same order of keys, `client` speaks to the servers, `coordinator` joins all of it.

Limits: etcd is an adviser here. Leadership and claims are fenced in PostgreSQL, and taskd goes on without etcd.
"""

from taskd.coordination.coordinator import EtcdCoordinator

__all__ = ["EtcdCoordinator"]
