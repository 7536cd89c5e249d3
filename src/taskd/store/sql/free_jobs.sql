-- Frees the running jobs of ended sessions, if the term still holds: pending again, or failed when they lost too many workers.
-- Only a loss alone counts towards that: of a job that may only run alone, in a session that had nothing else running. The
-- attempts record which losses were such. Jobs without earlier losses are not checked for any of this.
-- It runs after the sessions' end has committed, so that its snapshot holds every claim they ever made.
WITH term AS MATERIALIZED (
    {{term_fence}}
), orphans AS MATERIALIZED (
    SELECT o.tid, o.alone, o.alone AND o.lone_losses + 1 >= %(lone_loss_limit)s AS hopeless
    FROM (
        SELECT s.id AS session, r.id FROM taskd.sessions s
        CROSS JOIN LATERAL (
            SELECT j.id FROM taskd.jobs j WHERE j.session_id = s.id AND j.status = 'running' OFFSET 0) r
        WHERE s.ended_at IS NOT NULL
        ORDER BY r.id  -- the order in which every statement locks several jobs
        LIMIT %(limit)s) u
    CROSS JOIN LATERAL (
        SELECT j.ctid AS tid,
               j.losses >= %(suspect_after)s AND NOT EXISTS (
                   SELECT FROM taskd.jobs c
                   WHERE c.session_id = u.session AND c.status = 'running' AND c.id <> u.id) AS alone,
               CASE WHEN j.losses >= %(suspect_after)s THEN (
                   SELECT count(*) FROM jsonb_array_elements(j.attempts) a WHERE a @> '{"alone": true}') END AS lone_losses
        FROM taskd.jobs j
        WHERE j.id = u.id AND j.session_id = u.session AND j.status || '' = 'running' FOR UPDATE) o
), gone AS (
    DELETE FROM taskd.jobs j USING orphans o WHERE j.ctid = o.tid AND o.hopeless AND EXISTS (SELECT FROM term)
    RETURNING j.*, (SELECT n.progress FROM taskd.notes n WHERE n.job_id = j.id) AS progress
), kept AS (
    INSERT INTO taskd.finished_jobs (
        {{history_columns}}, progress)
    SELECT id, 'failed', task, queue, priority, attempt, worker_id, failures, crashes, losses + 1, max_retries, backoff, timeout,
           created_at, schedule_at, queued_at, started_at, clock_timestamp(), dedupe_key, parent_id, 'lost', %(error)s,
           {{carried_columns}}, progress
    FROM gone
), forgotten AS (
    DELETE FROM taskd.notes n USING gone g WHERE n.job_id = g.id
), counted AS (
    INSERT INTO taskd.finished_counts AS f (source, status, n)
    SELECT %(holder)s, 'failed', count(*) FROM gone HAVING count(*) > 0
    ON CONFLICT (source, status) DO UPDATE SET n = f.n + excluded.n
), again AS (
    UPDATE taskd.jobs j SET
        status = 'pending', session_id = NULL, worker_id = NULL, queued_at = NULL, started_at = NULL, losses = j.losses + 1,
        attempts = coalesce(j.attempts, '[]') || (jsonb_build_object(
            'attempt', j.attempt, 'worker_id', j.worker_id, 'started_at', j.started_at, 'ended_at', clock_timestamp(),
            'schedule_at', j.schedule_at, 'queued_at', j.queued_at, 'outcome', 'lost', 'error',
            CASE WHEN o.alone THEN 'its worker disappeared while it ran alone' ELSE 'its worker disappeared' END)
            || CASE WHEN o.alone THEN '{"alone": true}'::jsonb ELSE '{}' END)
    FROM orphans o WHERE j.ctid = o.tid AND NOT o.hopeless AND EXISTS (SELECT FROM term)
    RETURNING j.id
)
SELECT (SELECT count(*) FROM term), (SELECT count(*) FROM again), (SELECT count(*) FROM gone)
