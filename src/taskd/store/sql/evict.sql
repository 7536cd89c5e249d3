-- Ends the database connections of a shard's present leader, so that none of them can keep its row locked.
SELECT pg_terminate_backend(a.pid) FROM taskd.leader l
JOIN pg_stat_activity a ON a.application_name = 'taskd:leader:' || l.holder
WHERE l.shard = %(shard)s AND a.pid <> pg_backend_pid()
