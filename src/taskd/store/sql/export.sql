-- Reads a stretch of history, newest ids first: those of its jobs that ended within the given time, and where it ends.
-- The stretch is bounded, not the answer: a search for rare jobs never reads all of history in one statement. It ends early with
-- the job that fills the budget of bytes. Sizes are read one by one, so that jobs that do not fit are not read at all.
WITH RECURSIVE page AS MATERIALIZED (
    SELECT id, (%(since)s::timestamptz IS NULL OR completed_at >= %(since)s)
           AND (%(until)s::timestamptz IS NULL OR completed_at < %(until)s)
           AND (%(status)s::text IS NULL OR status = %(status)s)
           AND (%(queue)s::text IS NULL OR queue = %(queue)s) AND (%(task)s::text IS NULL OR task = %(task)s) AS wanted
    FROM taskd.finished_jobs WHERE id < %(before)s ORDER BY id DESC LIMIT %(limit)s
), ids AS MATERIALIZED (
    SELECT count(*) AS seen, min(id) AS last, coalesce(array_agg(id ORDER BY id DESC) FILTER (WHERE wanted), '{}') AS ids FROM page
), measured AS (
    SELECT 0 AS place, 0::bigint AS bytes
    UNION ALL
    SELECT m.place + 1, m.bytes + size.bytes FROM measured m CROSS JOIN ids CROSS JOIN LATERAL (
        SELECT 512 + octet_length(t.payload::text) + coalesce(octet_length(t.result::text), 0) + coalesce(octet_length(t.error), 0)
               + coalesce(octet_length(t.attempts::text), 0) + coalesce(octet_length(t.metadata::text), 0)
               + coalesce(octet_length(t.progress::text), 0) + coalesce(octet_length(t.traceback), 0) AS bytes
        FROM taskd.finished_jobs t WHERE t.id = ids.ids[m.place + 1] OFFSET 0) size
    WHERE m.place < cardinality(ids.ids) AND m.bytes < %(budget)s
), shown AS MATERIALIZED (
    SELECT seen, last, cardinality(ids) AS wanted, ids[1:(SELECT max(place) FROM measured)] AS ids FROM ids
)
SELECT s.seen, s.last, s.wanted,
       {{p.finished_columns}},
       p.attempts, p.outcome, p.progress, p.traceback
FROM shown s LEFT JOIN taskd.finished_jobs p ON p.id = ANY (ARRAY(SELECT unnest(ids) FROM shown))
ORDER BY p.id DESC
