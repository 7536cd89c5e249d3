-- Stores a schedule, in the place of one of that name if it may be replaced and differs; answers whether it is new.
-- One of another queue than the given ones (NULL: any) is left alone.
-- Its ticks begin now, and begin anew when its times change; other changes leave them as they are.
INSERT INTO taskd.schedules AS s (
    name, cron, every, tz, task, queue, priority, max_retries, backoff, timeout, metadata, payload, missed, catch_up, overlap, app,
    anchor, decided_until)
SELECT name, cron, every, tz, task, queue, priority, max_retries, backoff, timeout, metadata, coalesce(payload, 'null'), missed,
       catch_up, overlap, app, date_trunc('second', clock_timestamp()), clock_timestamp()
FROM json_to_record(%(schedule)s::json) AS i (
    name text, cron text, every float8, tz text, task text, queue text, priority smallint, max_retries smallint, backoff jsonb,
    timeout float8, metadata jsonb, payload json, missed text, catch_up smallint, overlap text, app text)
ON CONFLICT (name) DO UPDATE SET
    cron = excluded.cron, every = excluded.every, tz = excluded.tz, task = excluded.task, queue = excluded.queue,
    priority = excluded.priority, max_retries = excluded.max_retries, backoff = excluded.backoff, timeout = excluded.timeout,
    metadata = excluded.metadata, payload = excluded.payload, missed = excluded.missed, catch_up = excluded.catch_up,
    overlap = excluded.overlap, app = excluded.app, revision = s.revision + 1, changed_at = clock_timestamp(),
    anchor = CASE WHEN (s.cron, s.every, s.tz) IS DISTINCT FROM (excluded.cron, excluded.every, excluded.tz)
        THEN excluded.anchor ELSE s.anchor END,
    decided_until = CASE WHEN (s.cron, s.every, s.tz) IS DISTINCT FROM (excluded.cron, excluded.every, excluded.tz)
        THEN excluded.decided_until ELSE s.decided_until END,
    next_at = CASE WHEN (s.cron, s.every, s.tz) IS NOT DISTINCT FROM (excluded.cron, excluded.every, excluded.tz) THEN s.next_at END
WHERE %(replace)s AND (%(queues)s::text[] IS NULL OR s.queue = ANY (%(queues)s::text[])) AND (
    s.cron, s.every, s.tz, s.task, s.queue, s.priority, s.max_retries, s.backoff, s.timeout, s.metadata, s.payload::text, s.missed,
    s.catch_up, s.overlap, s.app
) IS DISTINCT FROM (
    excluded.cron, excluded.every, excluded.tz, excluded.task, excluded.queue, excluded.priority, excluded.max_retries,
    excluded.backoff, excluded.timeout, excluded.metadata, excluded.payload::text, excluded.missed, excluded.catch_up,
    excluded.overlap, excluded.app)
RETURNING s.revision = 1
