"""PostgreSQL, the truth about every job. Redis and etcd may lose everything; this store may not.

Limits first. One primary server, PostgreSQL 14 or later; no standby is read. A statement sees one database: sharding divides
the leader's work, not the data. Batches are bounded (`FLUSH`, `BATCH`, `PAGE_BYTES`), and so is each read. History is pruned by
the leader, so an id that was pruned is unknown. Nothing relies on LISTEN/NOTIFY: a lost notification costs a poll.

Model. Live jobs are rows of `jobs`; their ends move them to `finished_jobs`. `migrations/schema.sql` shows all tables. Each
module implements one Protocol of `taskd.seams.store`, by the named statements of `sql/`, each one round trip in autocommit.
What statements share is in `sql/fragments/`.

Guarantees. Every write carries its fence and changes nothing if that no longer holds: the term for a leader's writes,
dispatch_seq for a claim, (attempt, session) for an attempt's end, its notes and its output. Callers get back the rows that
were fenced in, or NotLeader, SessionLost or ClaimLost. A submit, a cancel, a retry and an end are on disk when they return;
dispatches need not be, since a lost one is dispatched again. Several rows are locked in the order of their ids everywhere.

Failures. Each duty has a lane: a connection of its own, whose deadline holds also on a hung server. A call raises
StoreUnavailable then (`outcome_unknown` if it may have been done), Rejected if PostgreSQL refuses the data, SchemaMismatch if
the schema does not fit. A call is not repeated here, with three exceptions: the intake submits the parts of a refused batch, a
take-over is tried once more after the old leader's connections were ended, and the outcome of a COMMIT whose answer was lost
is looked up until it is known (`transactions`, on connections of `task_connections`).
"""
