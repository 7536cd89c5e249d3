-- Finds the output of the attempts of several jobs; it ends early with the job that fills the budget of bytes.
-- The first column is the number of jobs that were read, in the order in which they are given.
WITH RECURSIVE given AS MATERIALIZED (
    SELECT %(ids)s::bigint[] AS ids
), measured AS (
    SELECT 0 AS place, 0::bigint AS bytes
    UNION ALL
    SELECT m.place + 1, m.bytes + size.bytes FROM measured m CROSS JOIN given g CROSS JOIN LATERAL (
        SELECT coalesce(sum(octet_length(l.body::text)), 0)::bigint AS bytes FROM taskd.logs l WHERE l.job_id = g.ids[m.place + 1]) size
    WHERE m.place < cardinality(g.ids) AND m.bytes < %(budget)s
), shown AS MATERIALIZED (
    SELECT (SELECT max(place) FROM measured) AS jobs
)
SELECT s.jobs, l.job_id, l.attempt, l.line, l.body FROM shown s
LEFT JOIN taskd.logs l ON l.job_id = ANY (ARRAY(SELECT unnest(g.ids[1:s.jobs]) FROM given g, shown s))
ORDER BY l.job_id, l.attempt, l.line
