-- Ends the database connections of the present leader, so that none of them can hold the leader row locked.
SELECT pg_terminate_backend(a.pid) FROM taskd.leader l
JOIN pg_stat_activity a ON a.application_name = 'taskd:leader:' || l.holder
WHERE a.pid <> pg_backend_pid()
