-- Lists the workers' sessions that are alive.
SELECT id, worker_id, host, queues, slots FROM taskd.sessions
WHERE ended_at IS NULL AND expires_at > clock_timestamp() ORDER BY worker_id
