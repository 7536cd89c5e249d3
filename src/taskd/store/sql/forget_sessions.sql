-- Deletes sessions that ended an hour ago and own no job any more, and adds up the counters of sources without a session.
-- The sums go under the nil id; nothing is done if the term is over. Without this both would grow with each start of a worker.
-- A source that goes on counting meanwhile inserts a new row.
WITH term AS MATERIALIZED (
    {{term_fence}}
), forgotten AS (
    DELETE FROM taskd.sessions s
    WHERE s.ended_at < clock_timestamp() - interval '1 hour'
      AND NOT EXISTS (SELECT FROM taskd.jobs j WHERE j.session_id = s.id AND j.status = 'running')
      AND EXISTS (SELECT FROM term)
), left_behind AS (
    DELETE FROM taskd.finished_counts c
    WHERE c.source <> '00000000-0000-0000-0000-000000000000'
      AND NOT EXISTS (SELECT FROM taskd.sessions s WHERE s.id = c.source)
      AND EXISTS (SELECT FROM term)
    RETURNING c.status, c.n
)
INSERT INTO taskd.finished_counts AS f (source, status, n)
SELECT '00000000-0000-0000-0000-000000000000', status, sum(n)::bigint FROM left_behind GROUP BY status ORDER BY status
ON CONFLICT (source, status) DO UPDATE SET n = f.n + excluded.n
