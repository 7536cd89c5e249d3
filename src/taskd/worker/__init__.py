"""A worker: takes deliveries from Redis, claims the jobs in PostgreSQL, runs them in executors, and settles their ends.

Limits
  A worker never fetches more deliveries than it has free slots. Ends that wait for PostgreSQL are bounded by its slots (or
  one batch), output by 64 GiB, progress by one value for each attempt. One worker id has one live session. A job that has
  lost several workers runs without neighbours, so it may wait until a worker is empty.

Model
  `WorkerRole` opens a session, which is the worker's right to claim. `Fetcher` reads and claims, `Attempts` starts the
  attempts in the pool (`taskd.worker.pool`) and collects their ends, `Settler` records the ends in batches, `Renewer`
  sends the heartbeat. `NoteWriter` and `LogWriter` store progress, checkpoints and output of running attempts, in batches
  too. `AttemptLocks` holds named locks in etcd for them. `Isolation` runs suspects alone.

Guarantees
  User code never runs in the worker's own process, so it cannot starve the heartbeat. A worker that cannot renew its
  session stops its tasks before another worker may start them. An end is recorded only under its claim (job, attempt and
  session), so an attempt that lost its claim changes nothing. A job that is final has the output of its attempt.

Failure handling
  While PostgreSQL is away, ends, notes and output wait here and are written later; nothing new is claimed. While Redis is
  away nothing is fetched. While etcd is away locks are denied or lost, and nothing else changes. A result that PostgreSQL
  refuses fails its own job only. A session that is lost is replaced by a new one after all executors were killed.
"""
