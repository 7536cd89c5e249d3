-- Ends the connection on which a transaction stands still, whose process has lost it.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %(pid)s AND backend_xid = %(xid)s::xid8::xid
