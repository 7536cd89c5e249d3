-- Finds a page of schedules by name, of some queues only if that is wanted.
SELECT name, cron, every, tz, task, queue, priority, max_retries, backoff, timeout, metadata, payload, missed, catch_up, overlap, app,
       revision, anchor, decided_until, clock_timestamp(), created_at, changed_at, paused_at, paused_by, NULL::json
FROM taskd.schedules
WHERE name > %(after)s AND (%(queues)s::text[] IS NULL OR queue = ANY (%(queues)s::text[]))
ORDER BY name LIMIT %(limit)s
