-- Ends every session whose lease has run out, if the term still holds.
-- The lease is compared on the locked row by the clock of that moment: a heartbeat that got in first wins.
WITH term AS MATERIALIZED (
    SELECT 1 FROM taskd.leader WHERE epoch = %(epoch)s AND holder = %(holder)s FOR SHARE
), expired AS MATERIALIZED (
    SELECT id FROM taskd.sessions WHERE ended_at IS NULL AND expires_at < clock_timestamp() FOR UPDATE
), ended AS (
    UPDATE taskd.sessions s SET ended_at = clock_timestamp()
    FROM expired WHERE s.id = expired.id AND EXISTS (SELECT FROM term)
    RETURNING s.worker_id
)
SELECT (SELECT count(*) FROM term), ended.worker_id FROM (VALUES (1)) AS always (one) LEFT JOIN ended ON true
