-- Finds a page of schedules by name, of some queues only if given; it ends early with the one that fills the budget of bytes.
-- The last column is true if there are more.
WITH RECURSIVE page AS MATERIALIZED (
    SELECT name FROM taskd.schedules
    WHERE name > %(after)s AND (%(queues)s::text[] IS NULL OR queue = ANY (%(queues)s::text[]))
    ORDER BY name LIMIT %(limit)s::int + 1
), ids AS MATERIALIZED (
    SELECT coalesce(array_agg(name ORDER BY name), '{}') AS ids FROM page
), measured AS (
    SELECT 0 AS place, 0::bigint AS bytes
    UNION ALL
    SELECT m.place + 1, m.bytes + size.bytes FROM measured m CROSS JOIN ids CROSS JOIN LATERAL (
        SELECT 512 + octet_length(t.payload::text) + coalesce(octet_length(t.metadata::text), 0) AS bytes
        FROM taskd.schedules t WHERE t.name = ids.ids[m.place + 1] OFFSET 0) size
    WHERE m.place < least(cardinality(ids.ids), %(limit)s::int) AND m.bytes < %(budget)s
)
SELECT name, cron, every, tz, task, queue, priority, max_retries, backoff, timeout, metadata, payload, missed, catch_up, overlap, app,
       revision, anchor, decided_until, clock_timestamp(), created_at, changed_at, paused_at, paused_by, NULL::json,
       (SELECT cardinality(ids) FROM ids) > (SELECT max(place) FROM measured)
FROM taskd.schedules WHERE name = ANY (ARRAY(SELECT unnest(ids[1:(SELECT max(place) FROM measured)]) FROM ids))
ORDER BY name
