"""etcd: live processes, elections, named locks, and the latest live configuration.

Limits: etcd is only an adviser. Leadership and claims are fenced in PostgreSQL, and taskd goes on without etcd.

Model: each process has one `session` (a lease), and all its keys depend on it. Processes follow the keys of candidates and
members in local copies (`mirror`), so a look costs no round trip. `persistent_key` keeps one key present; `election` and
`registry` are its two uses. `mutex` orders waiting processes by the age of their keys. `client` speaks to the servers, and
`coordinator` joins all parts behind `taskd.seams.Coordinator`.

Failures: while etcd is away, the last seen state stays visible, no election is won anew, and every part retries about once a
second. After a lost lease a new session begins, and each key is put again. An etcd that was wiped or restored is noticed,
and read anew. Foreign or malformed values are discarded, counted and logged at a bounded rate (`values`).
"""

from taskd.coordination.coordinator import EtcdCoordinator

__all__ = ["EtcdCoordinator"]
