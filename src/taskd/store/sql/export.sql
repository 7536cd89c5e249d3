-- Reads a stretch of history, newest ids first: those jobs of it that ended within the given time, and where the stretch ends.
-- The stretch is bounded, not the answer: a search for rare jobs never reads all of history in one statement.
WITH page AS MATERIALIZED (
    SELECT * FROM taskd.finished_jobs WHERE id < %(before)s ORDER BY id DESC LIMIT %(limit)s
)
SELECT (SELECT count(*) FROM page), (SELECT min(id) FROM page),
       p.id, p.status, p.task, p.queue, p.priority, p.payload, p.created_at, p.schedule_at, p.queued_at, p.started_at,
       p.completed_at, p.worker_id, p.attempt, p.max_retries, p.timeout, p.error, p.result, p.metadata, p.dedupe_key,
       p.parent_id, p.retried_as, p.attempts, p.outcome, p.progress, p.traceback
FROM (VALUES (1)) AS always (one) LEFT JOIN page p
    ON (%(since)s::timestamptz IS NULL OR p.completed_at >= %(since)s)
   AND (%(until)s::timestamptz IS NULL OR p.completed_at < %(until)s)
   AND (%(status)s::text IS NULL OR p.status = %(status)s)
   AND (%(queue)s::text IS NULL OR p.queue = %(queue)s) AND (%(task)s::text IS NULL OR p.task = %(task)s)
ORDER BY p.id DESC
