-- Ends every session whose lease has run out, if the term still holds.
-- Expired means before the moment of the caller's previous answer, by this server's clock. A statement that was on its way while
-- the server stood still runs when the server goes on, and must not mistake that standstill for silence of the workers. The lease
-- is compared on the locked row, so a heartbeat that came first wins. Answers the moment for the next call.
WITH term AS MATERIALIZED (
    {{term_fence}}
), expired AS MATERIALIZED (
    SELECT id FROM taskd.sessions WHERE ended_at IS NULL AND expires_at < %(before)s::timestamptz FOR UPDATE
), ended AS (
    UPDATE taskd.sessions s SET ended_at = clock_timestamp()
    FROM expired WHERE s.id = expired.id AND EXISTS (SELECT FROM term)
    RETURNING s.worker_id
)
SELECT (SELECT count(*) FROM term), clock_timestamp(), ended.worker_id FROM (VALUES (1)) AS always (one) LEFT JOIN ended ON true
