-- Makes the jobs of waiting ticks whose schedule has no live job any more or allows several now, if the term still holds.
-- Rows that another transaction has locked are left for the next time, as in fire.sql.
WITH term AS MATERIALIZED (
    {{term_fence}}
), free AS MATERIALIZED (
    SELECT s.name, s.task, s.queue, s.priority, s.max_retries, s.backoff, s.timeout, s.metadata, s.payload, w.fire_at
    FROM taskd.fires w JOIN taskd.schedules s ON s.name = w.schedule
    WHERE w.state = 'waiting' AND s.paused_at IS NULL AND EXISTS (SELECT FROM term) AND (s.overlap = 'allow' OR NOT EXISTS (
        SELECT FROM taskd.fires f CROSS JOIN LATERAL (SELECT FROM taskd.jobs j WHERE j.id = f.job_id OFFSET 0) live
        WHERE f.schedule = s.name AND f.state = 'open'))
    ORDER BY s.name LIMIT %(limit)s
    FOR UPDATE OF s, w SKIP LOCKED
), fired AS (
    UPDATE taskd.fires w SET state = 'open', job_id = nextval('taskd.job_ids'), fired_at = clock_timestamp()
    FROM free WHERE w.schedule = free.name AND w.fire_at = free.fire_at AND w.state = 'waiting'
    RETURNING w.schedule, w.fire_at, w.fired_at, w.job_id
), stored AS (
    INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, timeout, created_at, schedule_at, metadata, payload)
    SELECT f.job_id, s.task, s.queue, s.priority, s.max_retries, s.backoff, s.timeout, f.fired_at, f.fired_at,
           coalesce(s.metadata, '{}') || jsonb_build_object(
               'schedule', f.schedule, 'fire_at', replace(to_json(f.fire_at) #>> '{}', '+00:00', 'Z')),
           s.payload
    FROM fired f JOIN free s ON s.name = f.schedule
)
SELECT (SELECT count(*) FROM term), (SELECT count(*) FROM fired)
