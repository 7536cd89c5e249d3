"""The scheduler: serves the API at all times, and leads the shards that it is elected for.

Limits: exactly one scheduler leads a shard at a time. A scheduler that leads nothing dispatches nothing, and no statement
of a leader takes effect after its term.

Model: leadership is a value, a `Term` (shard, epoch, holder). `Leadership` wins it and hands it to the duties of a shard;
each statement of a duty carries it, and PostgreSQL refuses it once a newer epoch exists. etcd's election makes failover
quick; PostgreSQL's epoch makes it safe. When the term ends, the TaskGroup of its duties ends with it.

Duties of each shard: `Dispatcher` (pending to queued, then an entry in Redis), `Reofferer` (entries that Redis lost),
`Fleet` (the workers' slots). Duties of shard 0 alone: `Reaper`, `Pruner`, `Firer` with `FirePruner`, and `config.Repairer`.
Duties of every scheduler: `Balance`, the watches of `health`, `DispatchWakeup` and `CancelNotifier`.

Failures: a duty that meets an outage of PostgreSQL or Redis waits and goes on; only `NotLeader` ends the term. A term also
ends after `scheduler.leader_stale` seconds without a commit, and when etcd shows another holder, but never because etcd is
away. What a dead leader left half done is found by its successor in PostgreSQL.
"""
