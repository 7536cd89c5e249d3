-- Extends a session's lease unless it has ended: heartbeat.sql for a worker that has no claim to lose.
UPDATE taskd.sessions
SET expires_at = clock_timestamp() + make_interval(secs => %(ttl)s::float8), slots = coalesce(%(slots)s::int, slots)
WHERE id = %(session)s AND ended_at IS NULL
RETURNING 1, NULL::bigint, NULL::int, NULL::text
