-- Lists live jobs, newest first.
SELECT id, status, task, queue, priority, payload, created_at, schedule_at, queued_at, started_at, NULL::timestamptz, worker_id,
       attempt, max_retries, timeout, error, NULL::json, metadata, dedupe_key, parent_id, NULL::bigint,
       attempts, NULL::text, (SELECT n.progress FROM taskd.notes n WHERE n.job_id = jobs.id), NULL::text
FROM taskd.jobs
WHERE id < %(before)s AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(queue)s::text IS NULL OR queue = %(queue)s) AND (%(task)s::text IS NULL OR task = %(task)s)
ORDER BY id DESC LIMIT %(limit)s
