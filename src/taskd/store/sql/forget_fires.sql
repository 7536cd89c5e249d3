-- Deletes ticks that were decided long ago and are over, and waiting ones whose schedule is gone, if the term still holds.
-- The removal of a schedule does not see a tick that is being decided at that moment. Rows that another transaction has locked are
-- left, as in fire.sql.
WITH term AS MATERIALIZED (
    {{term_fence}}
), old AS MATERIALIZED (
    SELECT schedule, fire_at FROM taskd.fires
    WHERE fired_at < clock_timestamp() - make_interval(secs => %(keep)s) AND state IN ('closed', 'skipped')
      AND EXISTS (SELECT FROM term)
    ORDER BY fired_at LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), orphans AS MATERIALIZED (
    SELECT w.schedule, w.fire_at FROM taskd.fires w
    WHERE w.state = 'waiting' AND NOT EXISTS (SELECT FROM taskd.schedules s WHERE s.name = w.schedule) AND EXISTS (SELECT FROM term)
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM taskd.fires f USING (SELECT * FROM old UNION ALL SELECT * FROM orphans) o
    WHERE f.schedule = o.schedule AND f.fire_at = o.fire_at
    RETURNING 1
)
SELECT (SELECT count(*) FROM term), (SELECT count(*) FROM gone)
