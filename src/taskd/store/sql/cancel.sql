-- Moves live jobs to history as cancelled, whatever they were doing; whoever runs one is fenced off by that.
-- The rows are locked in the order of the ids, and deleted by primary key: what a dispatch, claim or retry made of a row while we
-- waited for its lock is newer than this statement's snapshot, which finds it through the row's old version and not by its ctid.
-- An attempt that ran ends here, with no error of its own; a job that waited for its retry keeps the last one's.
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
