-- Moves live jobs to history as cancelled, in any status; the claim of a running one is fenced off by that.
-- The rows are locked in the order of the ids, and deleted by primary key. While this waits for a row's lock, a dispatch, claim or
-- retry may write a newer version than this statement's snapshot has: it is found through the old version, not by its ctid.
-- An attempt that ran ends here, with no error of its own. A job that waited for its retry keeps the error of its last attempt.
WITH held AS MATERIALIZED (
    SELECT h.id FROM unnest(%(ids)s::bigint[]) AS u (id)
    CROSS JOIN LATERAL (SELECT j.id FROM taskd.jobs j WHERE j.id = u.id FOR UPDATE) h
), gone AS (
    DELETE FROM taskd.jobs WHERE id = ANY (ARRAY(SELECT id FROM held))
    RETURNING *, (SELECT n.progress FROM taskd.notes n WHERE n.job_id = jobs.id) AS progress
), kept AS (
    INSERT INTO taskd.finished_jobs (
        {{history_columns}}, progress)
    SELECT id, 'cancelled', task, queue, priority, attempt, worker_id, failures, crashes, losses, max_retries, backoff, timeout,
           created_at, schedule_at, queued_at, started_at, clock_timestamp(), dedupe_key, parent_id,
           CASE WHEN status = 'running' THEN 'cancelled' END, CASE WHEN status <> 'running' THEN error END,
           {{carried_columns}}, progress
    FROM gone
), forgotten AS (
    DELETE FROM taskd.notes n USING gone g WHERE n.job_id = g.id
), counted AS (
    INSERT INTO taskd.finished_counts AS f (source, status, n)
    SELECT %(source)s, 'cancelled', count(*) FROM gone HAVING count(*) > 0
    ON CONFLICT (source, status) DO UPDATE SET n = f.n + excluded.n
)
SELECT id, status = 'running' FROM gone
