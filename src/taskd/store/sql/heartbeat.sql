-- Extends a session's lease unless it has ended, and finds those of its claims that no longer hold, with the outcome of each.
WITH alive AS (
    UPDATE taskd.sessions
    SET expires_at = clock_timestamp() + make_interval(secs => %(ttl)s::float8), slots = coalesce(%(slots)s::int, slots)
    WHERE id = %(session)s AND ended_at IS NULL
    RETURNING id
)
SELECT (SELECT count(*) FROM alive), gone.id, gone.attempt, (
    SELECT f.outcome FROM taskd.finished_jobs f WHERE f.id = gone.id AND f.attempt = gone.attempt OFFSET 0)
FROM (VALUES (1)) AS always (one) LEFT JOIN (
    SELECT u.id, u.attempt FROM unnest(%(ids)s::bigint[], %(attempts)s::int[]) AS u (id, attempt)
    WHERE NOT EXISTS (
        SELECT FROM taskd.jobs j
        WHERE j.id = u.id AND j.attempt = u.attempt AND j.session_id = %(session)s AND j.status || '' = 'running'
        OFFSET 0)) gone ON true
