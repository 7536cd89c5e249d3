-- Lists live jobs, newest first, up to the size of a page; it ends early with the job that fills the budget of bytes.
-- The last column is true if there are more. Sizes are read one by one, so that jobs that do not fit are not read at all.
WITH RECURSIVE page AS MATERIALIZED (
    SELECT id FROM taskd.jobs
    WHERE id < %(before)s AND (%(status)s::text IS NULL OR status = %(status)s)
      AND (%(queue)s::text IS NULL OR queue = %(queue)s) AND (%(task)s::text IS NULL OR task = %(task)s)
    ORDER BY id DESC LIMIT %(limit)s::int + 1
), ids AS MATERIALIZED (
    SELECT coalesce(array_agg(id ORDER BY id DESC), '{}') AS ids FROM page
), measured AS (
    SELECT 0 AS place, 0::bigint AS bytes
    UNION ALL
    SELECT m.place + 1, m.bytes + size.bytes FROM measured m CROSS JOIN ids CROSS JOIN LATERAL (
        SELECT 512 + octet_length(t.payload::text) + coalesce(octet_length(t.error), 0) + coalesce(octet_length(t.metadata::text), 0) AS bytes
        FROM taskd.jobs t WHERE t.id = ids.ids[m.place + 1] OFFSET 0) size
    WHERE m.place < least(cardinality(ids.ids), %(limit)s::int) AND m.bytes < %(budget)s
)
SELECT {{live_columns}},
       NULL::jsonb, NULL::text, (SELECT n.progress FROM taskd.notes n WHERE n.job_id = jobs.id), NULL::text,
       (SELECT cardinality(ids) FROM ids) > (SELECT max(place) FROM measured)
FROM taskd.jobs WHERE id = ANY (ARRAY(SELECT unnest(ids[1:(SELECT max(place) FROM measured)]) FROM ids))
ORDER BY id DESC
