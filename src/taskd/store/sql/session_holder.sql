-- Finds the session that holds a worker's id, and the seconds left of its lease.
SELECT id, worker_id, host, queues, slots, extract(epoch FROM expires_at - clock_timestamp())::float8
FROM taskd.sessions WHERE worker_id = %(worker_id)s AND ended_at IS NULL
