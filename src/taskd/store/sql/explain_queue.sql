-- Finds what stands before a waiting job: workers of its queue, the jobs that have had their slots longest, and jobs that go first.
-- None are counted further than the limit. A job that runs alone has all the slots of its worker.
-- `levels` walks the priorities that exist, as dispatch.sql does. At each of them, the jobs that go first are the head of the index
-- up to one place, since within a priority ageing does not change the order. A job with `gap` points less than ours needs as many
-- from ageing to be level with it, and one more to be better whatever its time.
WITH RECURSIVE serving AS MATERIALIZED (
    SELECT s.id, s.worker_id, s.slots FROM taskd.sessions s
    WHERE s.ended_at IS NULL AND s.expires_at > clock_timestamp() AND %(queue)s = ANY (s.queues)
    ORDER BY s.worker_id LIMIT %(workers)s
), running AS MATERIALIZED (
    SELECT s.id AS session, s.worker_id, r.id, r.task, r.queue, r.started_at, r.alone FROM serving s CROSS JOIN LATERAL (
        SELECT j.id, j.task, j.queue, j.started_at, j.losses >= %(suspect_after)s AS alone FROM taskd.jobs j
        WHERE j.session_id = s.id AND j.status = 'running' LIMIT s.slots OFFSET 0) r
), levels AS (
    SELECT (SELECT j.priority FROM taskd.jobs j
            WHERE j.status = 'pending' AND j.queue = %(queue)s AND %(limit)s > 0
            ORDER BY j.priority DESC LIMIT 1) AS priority
    UNION ALL
    SELECT (SELECT j.priority FROM taskd.jobs j
            WHERE j.status = 'pending' AND j.queue = %(queue)s AND j.priority < l.priority
            ORDER BY j.priority DESC LIMIT 1)
    FROM levels l WHERE l.priority IS NOT NULL
), gaps AS (
    SELECT l.priority, statement_timestamp() - make_interval(secs => %(ageing)s::float8 * g.gap) AS level_at,
           statement_timestamp() - make_interval(secs => %(ageing)s::float8 * (g.gap + 1)) AS better_at
    FROM levels l CROSS JOIN LATERAL (
        SELECT %(priority)s - l.priority
               + floor(extract(epoch FROM statement_timestamp() - %(schedule_at)s::timestamptz) / %(ageing)s::float8) AS gap) g
    WHERE l.priority IS NOT NULL
), places AS (
    SELECT priority, least(statement_timestamp(), CASE
               WHEN better_at >= %(schedule_at)s::timestamptz THEN better_at
               WHEN level_at >= %(schedule_at)s::timestamptz THEN %(schedule_at)s::timestamptz
               ELSE level_at END) AS until,
           CASE WHEN better_at < %(schedule_at)s::timestamptz AND level_at >= %(schedule_at)s::timestamptz
                THEN %(id)s::bigint ELSE 9223372036854775807 END AS until_id
    FROM gaps
), ahead AS (
    SELECT count(*) AS n FROM (
        SELECT 1 FROM places p CROSS JOIN LATERAL (
            SELECT FROM taskd.jobs j
            WHERE j.status = 'pending' AND j.queue = %(queue)s AND j.priority = p.priority
              AND (j.schedule_at, j.id) < (p.until, p.until_id) LIMIT %(limit)s) a
        LIMIT %(limit)s) b
), rung AS (
    SELECT count(*) AS n FROM (
        SELECT j.queue, j.priority FROM taskd.jobs j WHERE j.status = 'queued' ORDER BY j.queued_at LIMIT %(limit)s) q
    WHERE q.queue = %(queue)s AND q.priority >= %(low)s
), last AS (
    SELECT s.worker_id, coalesce(s.ended_at, s.expires_at) AS until FROM taskd.sessions s
    WHERE %(queue)s = ANY (s.queues) AND NOT EXISTS (SELECT FROM serving)
    ORDER BY 2 DESC LIMIT 1
)
SELECT (SELECT json_agg(json_build_array(s.id, s.worker_id, s.slots, (
                            SELECT CASE WHEN bool_or(r.alone) THEN greatest(s.slots, count(*)) ELSE count(*) END
                            FROM running r WHERE r.session = s.id))
                        ORDER BY s.worker_id) FROM serving s),
       (SELECT json_agg(json_build_object('id', r.id, 'task', r.task, 'queue', r.queue, 'worker_id', r.worker_id,
                                          'started_at', r.started_at) ORDER BY r.started_at, r.id)
        FROM (SELECT * FROM running ORDER BY started_at, id LIMIT %(longest)s) r),
       ahead.n, rung.n, last.worker_id, last.until
FROM ahead CROSS JOIN rung LEFT JOIN last ON true
