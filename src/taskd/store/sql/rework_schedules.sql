-- Has the next ticks of schedules in time zones worked out anew, if the term still holds: the rules of a zone change at times.
-- A schedule that another transaction has locked keeps its next tick, as in fire.sql.
WITH term AS MATERIALIZED (
    {{term_fence}}
), held AS MATERIALIZED (
    SELECT name FROM taskd.schedules
    WHERE cron IS NOT NULL AND tz <> 'UTC' AND next_at IS NOT NULL AND EXISTS (SELECT FROM term)
    ORDER BY name
    FOR UPDATE SKIP LOCKED
), reworked AS (
    UPDATE taskd.schedules s SET next_at = NULL FROM held h WHERE s.name = h.name
)
SELECT count(*) FROM term
