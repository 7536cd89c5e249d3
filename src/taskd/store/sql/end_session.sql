-- Ends one session for good: its worker is drained, or its process is gone.
WITH doomed AS MATERIALIZED (
    SELECT id FROM taskd.sessions WHERE id = %(session)s AND ended_at IS NULL FOR UPDATE
)
UPDATE taskd.sessions s SET ended_at = clock_timestamp() FROM doomed WHERE s.id = doomed.id RETURNING s.id
