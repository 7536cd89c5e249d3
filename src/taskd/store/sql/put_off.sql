-- Moves a dispatch of a job that only runs alone from queued back to pending, due again after a delay: this worker is busy.
-- The dispatch must still be the current one, and the worker's session must not have ended.
WITH alive AS MATERIALIZED (
    SELECT FROM taskd.sessions WHERE id = %(session)s AND ended_at IS NULL FOR KEY SHARE
), offered AS MATERIALIZED (
    SELECT j.ctid AS tid FROM taskd.jobs j
    WHERE j.id = %(id)s AND j.status || '' = 'queued' AND j.dispatch_seq = %(seq)s AND j.losses >= %(suspect_after)s FOR UPDATE
)
UPDATE taskd.jobs j SET
    status = 'pending', queued_at = NULL, schedule_at = clock_timestamp() + make_interval(secs => %(delay)s::float8)
FROM offered WHERE j.ctid = offered.tid AND EXISTS (SELECT FROM alive)
RETURNING j.id
