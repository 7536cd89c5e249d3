-- Closes fires whose job is no longer live, and deletes those that were decided long ago and are over, if the term still holds.
WITH term AS MATERIALIZED (
    SELECT 1 FROM taskd.leader WHERE shard = %(shard)s AND epoch = %(epoch)s AND holder = %(holder)s FOR SHARE
), over AS MATERIALIZED (
    SELECT o.schedule, o.fire_at FROM (
        SELECT schedule, fire_at, job_id FROM taskd.fires WHERE state = 'open' ORDER BY schedule, fire_at LIMIT %(limit)s) o
    WHERE NOT EXISTS (SELECT FROM taskd.jobs j WHERE j.id = o.job_id)
), closed AS (
    UPDATE taskd.fires f SET state = 'closed' FROM over
    WHERE f.schedule = over.schedule AND f.fire_at = over.fire_at AND EXISTS (SELECT FROM term)
), old AS MATERIALIZED (
    SELECT schedule, fire_at FROM taskd.fires
    WHERE fired_at < clock_timestamp() - make_interval(secs => %(keep)s) AND state IN ('closed', 'skipped')
    ORDER BY fired_at LIMIT %(limit)s
), gone AS (
    DELETE FROM taskd.fires f USING old
    WHERE f.schedule = old.schedule AND f.fire_at = old.fire_at AND EXISTS (SELECT FROM term)
    RETURNING 1
)
SELECT (SELECT count(*) FROM term), (SELECT count(*) FROM gone)
