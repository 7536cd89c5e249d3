-- Finds one job, live or finished, for an explanation, with the lease of the session that runs it.
SELECT clock_timestamp(), j.id, j.status, j.task, j.queue, j.priority, j.schedule_at, j.queued_at, j.started_at, NULL::timestamptz,
       j.worker_id, j.attempt, j.dispatch_seq, j.max_retries, j.failures, j.crashes, j.losses, j.timeout, NULL::text, j.error,
       j.attempts -> -1, (SELECT n.progress FROM taskd.notes n WHERE n.job_id = j.id), NULL::bigint, s.expires_at, s.ended_at
FROM taskd.jobs j LEFT JOIN taskd.sessions s ON s.id = j.session_id WHERE j.id = %(id)s
UNION ALL
SELECT clock_timestamp(), f.id, f.status, f.task, f.queue, f.priority, f.schedule_at, f.queued_at, f.started_at, f.completed_at,
       f.worker_id, f.attempt, 0, f.max_retries, f.failures, f.crashes, f.losses, f.timeout, f.outcome, f.error,
       NULL::jsonb, f.progress, f.retried_as, NULL::timestamptz, NULL::timestamptz
FROM taskd.finished_jobs f WHERE f.id = %(id)s
