-- Makes the jobs of due ticks, if the term still holds and their schedules are as they were when the ticks were worked out.
-- The row of each tick decides: the statement that inserts it makes its job. Whether an earlier job of the schedule is live is
-- looked up here. A policy other than allow lets at most one tick through, and with queue one more wait. Jobs are made as submit.sql
-- makes them.
-- A schedule that another transaction has locked is left for the next time, since the wait would hold up the leader's row. The
-- names of the schedules that were decided come back.
WITH term AS MATERIALIZED (
    {{term_fence}}
), input AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(decisions)s::json) AS d (
        name text, revision bigint, decided_until timestamptz, fires timestamptz[], until timestamptz, next_at timestamptz)
    ORDER BY name  -- the order in which every statement locks several schedules
), held AS MATERIALIZED (
    SELECT h.*, i.fires, i.until, i.next_at FROM input i CROSS JOIN LATERAL (
        SELECT s.name, s.task, s.queue, s.priority, s.max_retries, s.backoff, s.timeout, s.metadata, s.payload, s.overlap
        FROM taskd.schedules s
        WHERE s.name = i.name AND s.revision = i.revision AND s.decided_until = i.decided_until AND s.paused_at IS NULL
        FOR UPDATE SKIP LOCKED) h
    WHERE EXISTS (SELECT FROM term)
), judged AS MATERIALIZED (
    SELECT h.name, h.overlap, h.fires,
           h.overlap <> 'allow' AND EXISTS (
               SELECT FROM taskd.fires f CROSS JOIN LATERAL (SELECT FROM taskd.jobs j WHERE j.id = f.job_id OFFSET 0) live
               WHERE f.schedule = h.name AND f.state = 'open') AS busy,  -- OFFSET 0: from the ticks to their jobs, never the other way
           EXISTS (SELECT FROM taskd.fires f WHERE f.schedule = h.name AND f.state = 'waiting') AS waits
    FROM held h
), ticks AS MATERIALIZED (
    SELECT g.name, g.overlap, g.busy, g.waits, t.fire_at, row_number() OVER (PARTITION BY g.name ORDER BY t.fire_at) AS place
    FROM judged g CROSS JOIN LATERAL unnest(g.fires) AS t (fire_at)
    WHERE NOT EXISTS (SELECT FROM taskd.fires f WHERE f.schedule = g.name AND f.fire_at = t.fire_at)
    ORDER BY g.name, t.fire_at
), decided AS MATERIALIZED (
    SELECT name, fire_at, CASE
        WHEN overlap = 'allow' OR (place = 1 AND NOT busy AND NOT waits) THEN 'open'
        WHEN overlap = 'queue' AND NOT waits AND place = CASE WHEN busy THEN 1 ELSE 2 END THEN 'waiting'
        ELSE 'skipped' END AS state
    FROM ticks
), fired AS (
    INSERT INTO taskd.fires (schedule, fire_at, fired_at, state, job_id)
    SELECT name, fire_at, clock_timestamp(), state, CASE WHEN state = 'open' THEN nextval('taskd.job_ids') END FROM decided
    ON CONFLICT DO NOTHING
    RETURNING schedule, fire_at, fired_at, state, job_id
), stored AS (
    INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, timeout, created_at, schedule_at, metadata, payload)
    SELECT f.job_id, h.task, h.queue, h.priority, h.max_retries, h.backoff, h.timeout, f.fired_at, f.fired_at,
           coalesce(h.metadata, '{}') || jsonb_build_object(
               'schedule', f.schedule, 'fire_at', replace(to_json(f.fire_at) #>> '{}', '+00:00', 'Z')),
           h.payload
    FROM fired f JOIN held h ON h.name = f.schedule WHERE f.job_id IS NOT NULL
), moved AS (
    UPDATE taskd.schedules s SET decided_until = h.until, next_at = h.next_at FROM held h WHERE s.name = h.name
)
SELECT (SELECT count(*) FROM term), count(*) FILTER (WHERE state = 'open'), count(*) FILTER (WHERE state = 'waiting'),
       count(*) FILTER (WHERE state = 'skipped'), (SELECT coalesce(array_agg(name), '{}') FROM held)
FROM fired
