-- Makes a new pending job of each given job that failed or was cancelled, once: the old row names the new one.
-- Two retries of one job meet at its row's lock; the later one then finds retried_as set, and makes nothing.
-- The tick of a schedule that made the old job gets the new one, so that the schedule's next ticks see a live job.
WITH held AS MATERIALIZED (
    SELECT h.id FROM unnest(%(ids)s::bigint[]) AS u (id)
    CROSS JOIN LATERAL (
        SELECT f.id FROM taskd.finished_jobs f
        WHERE f.id = u.id AND f.status IN ('failed', 'cancelled') AND f.retried_as IS NULL FOR UPDATE) h
), marked AS (
    UPDATE taskd.finished_jobs f SET retried_as = nextval('taskd.job_ids')
    WHERE f.id = ANY (ARRAY(SELECT id FROM held)) AND f.retried_as IS NULL
    RETURNING f.*, clock_timestamp() AS now
), stored AS (
    INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, timeout, created_at, schedule_at, parent_id,
                            {{retried_columns}})
    SELECT retried_as, task, queue, priority, max_retries, backoff, timeout, now, now, id, {{retried_columns}} FROM marked
), reopened AS (
    UPDATE taskd.fires f SET state = 'open', job_id = m.retried_as FROM marked m WHERE f.job_id = m.id
)
SELECT id, retried_as FROM marked
