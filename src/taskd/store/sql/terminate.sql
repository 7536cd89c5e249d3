-- Ends the connection of a transaction that stands still because its process has lost the connection.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %(pid)s AND backend_xid = %(xid)s::xid8::xid
