-- Removes a schedule and the tick that waits for one of its jobs; the jobs that it made stay, and so do its other ticks.
WITH gone AS (
    DELETE FROM taskd.schedules
    WHERE name = %(name)s AND (%(queues)s::text[] IS NULL OR queue = ANY (%(queues)s::text[])) RETURNING name
), dropped AS (
    DELETE FROM taskd.fires WHERE schedule = %(name)s AND state = 'waiting' AND EXISTS (SELECT FROM gone)
)
SELECT name FROM gone
