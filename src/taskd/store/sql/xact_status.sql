-- Says whether a transaction is over.
SELECT pg_xact_status(%(xid)s::xid8)
