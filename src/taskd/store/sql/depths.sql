-- Counts the live jobs of each queue, and finds how long its oldest due job has waited.
SELECT queue, count(*) FILTER (WHERE status = 'pending'), count(*) FILTER (WHERE status = 'queued'),
       count(*) FILTER (WHERE status = 'running'),
       extract(epoch FROM clock_timestamp() - min(schedule_at) FILTER (
           WHERE status = 'pending' AND schedule_at <= statement_timestamp()))::float8
FROM taskd.jobs GROUP BY queue ORDER BY queue
