-- Counts the live jobs of each queue.
SELECT queue, count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'queued'),
       count(*) FILTER (WHERE status = 'running')
FROM taskd.jobs GROUP BY queue ORDER BY queue
