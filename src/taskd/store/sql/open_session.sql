-- Begins a session, unless another one holds the worker's id.
INSERT INTO taskd.sessions (id, worker_id, host, queues, slots, expires_at)
VALUES (%(id)s, %(worker_id)s, %(host)s::jsonb, %(queues)s, %(slots)s,
        clock_timestamp() + make_interval(secs => %(ttl)s::float8))
ON CONFLICT DO NOTHING
RETURNING id
