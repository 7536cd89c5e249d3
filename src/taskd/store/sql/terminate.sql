-- Ends the connection of this name, whose process has lost it.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %(name)s AND pid <> pg_backend_pid()
