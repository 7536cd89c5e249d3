-- Closes the open ticks of one page whose jobs have ended, if the term still holds.
-- A page is a stretch of all open ticks, so that ticks with live jobs do not keep it from reaching the ones behind them.
-- A tick that another transaction has locked is left for the next time, as in fire.sql. A tick whose job was retried meanwhile has
-- another job.
WITH term AS MATERIALIZED (
    {{term_fence}}
), page AS MATERIALIZED (
    SELECT schedule, fire_at, job_id FROM taskd.fires
    WHERE state = 'open' AND (schedule, fire_at) > (%(name)s::text, %(fire_at)s::timestamptz)
    ORDER BY schedule, fire_at LIMIT %(limit)s
), over AS MATERIALIZED (
    SELECT p.schedule, p.fire_at, p.job_id FROM page p
    WHERE NOT EXISTS (SELECT FROM taskd.jobs j WHERE j.id = p.job_id OFFSET 0) AND EXISTS (SELECT FROM term)
), held AS MATERIALIZED (
    SELECT h.schedule, h.fire_at FROM over o CROSS JOIN LATERAL (
        SELECT f.schedule, f.fire_at FROM taskd.fires f
        WHERE f.schedule = o.schedule AND f.fire_at = o.fire_at AND f.job_id = o.job_id FOR UPDATE SKIP LOCKED) h
), closed AS (
    UPDATE taskd.fires f SET state = 'closed' FROM held h WHERE f.schedule = h.schedule AND f.fire_at = h.fire_at
    RETURNING 1
)
SELECT (SELECT count(*) FROM term), (SELECT count(*) FROM closed), (SELECT count(*) FROM page), last.schedule, last.fire_at
FROM (SELECT) one LEFT JOIN (SELECT schedule, fire_at FROM page ORDER BY schedule DESC, fire_at DESC LIMIT 1) last ON true
