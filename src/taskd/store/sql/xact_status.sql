-- Reads the status of a transaction.
SELECT pg_xact_status(%(xid)s::xid8)
