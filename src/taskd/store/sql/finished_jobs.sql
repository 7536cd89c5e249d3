-- Lists finished jobs, newest first.
SELECT id, status, task, queue, priority, payload, created_at, schedule_at, queued_at, started_at, completed_at, worker_id,
       attempt, max_retries, timeout, error, result, metadata, dedupe_key, parent_id, retried_as, attempts,
       outcome, progress, NULL::text
FROM taskd.finished_jobs
WHERE id < %(before)s AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(queue)s::text IS NULL OR queue = %(queue)s) AND (%(task)s::text IS NULL OR task = %(task)s)
ORDER BY id DESC LIMIT %(limit)s
