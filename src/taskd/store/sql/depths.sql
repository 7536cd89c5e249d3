-- Counts the live jobs of each queue, and finds how long its oldest due job has waited; for the queues with most jobs.
-- The last columns have the number of all queues and their jobs, so that the caller can show the totals of those left out.
WITH counted AS MATERIALIZED (
    SELECT queue, count(*) FILTER (WHERE status = 'pending') AS pending, count(*) FILTER (WHERE status = 'queued') AS queued,
           count(*) FILTER (WHERE status = 'running') AS running,
           extract(epoch FROM clock_timestamp() - min(schedule_at) FILTER (
               WHERE status = 'pending' AND schedule_at <= statement_timestamp()))::float8 AS oldest
    FROM taskd.jobs WHERE %(queues)s::text[] IS NULL OR queue = ANY (%(queues)s::text[]) GROUP BY queue
)
SELECT queue, pending, queued, running, oldest, count(*) OVER (), (sum(pending) OVER ())::bigint, (sum(queued) OVER ())::bigint,
       (sum(running) OVER ())::bigint
FROM counted ORDER BY pending + queued + running DESC, queue LIMIT %(limit)s
