-- Finds one job, live or finished.
SELECT id, status, task, queue, priority, payload, created_at, schedule_at, queued_at, started_at, NULL::timestamptz, worker_id,
       attempt, max_retries, timeout, error, NULL::json, metadata, dedupe_key, parent_id, NULL::bigint,
       attempts, NULL::text, (SELECT n.progress FROM taskd.notes n WHERE n.job_id = jobs.id), NULL::text
FROM taskd.jobs WHERE id = %(id)s
UNION ALL
SELECT id, status, task, queue, priority, payload, created_at, schedule_at, queued_at, started_at, completed_at, worker_id,
       attempt, max_retries, timeout, error, result, metadata, dedupe_key, parent_id, retried_as, attempts,
       outcome, progress, traceback
FROM taskd.finished_jobs WHERE id = %(id)s
