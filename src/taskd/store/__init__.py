"""PostgreSQL, the truth about every job.

Each module implements one seam of `taskd.seams` with the named statements in `sql/`. Every statement is one round trip, in
autocommit, and every write to a job carries its fence: the term for what the leader does, dispatch_seq for a claim,
(attempt, session) for its end. Nothing here relies on LISTEN/NOTIFY.
"""
