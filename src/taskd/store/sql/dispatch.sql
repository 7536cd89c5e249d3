-- Moves the best due jobs of a shard from pending to queued, at most each queue's credit, if the term still holds.
-- It also answers when the next job is due.
-- `levels` walks the priorities that exist (a skip scan), so that neither a backlog of later jobs nor ageing costs a sort of it.
WITH RECURSIVE term AS MATERIALIZED (
    {{term_fence}}
), demand AS MATERIALIZED (
    SELECT queue, low, high, credit FROM json_to_recordset(%(credit)s::json) AS d (queue text, low int, high int, credit int)
    WHERE taskd.shard_of(queue, %(shards)s) = %(shard)s
), levels AS (
    SELECT d.queue, d.low, d.credit, (
        SELECT j.priority FROM taskd.jobs j
        WHERE j.status = 'pending' AND j.queue = d.queue AND j.priority BETWEEN d.low AND d.high
        ORDER BY j.priority DESC LIMIT 1) AS priority
    FROM demand d
    UNION ALL
    SELECT l.queue, l.low, l.credit, (
        SELECT j.priority FROM taskd.jobs j
        WHERE j.status = 'pending' AND j.queue = l.queue AND j.priority >= l.low AND j.priority < l.priority
        ORDER BY j.priority DESC LIMIT 1)
    FROM levels l WHERE l.priority IS NOT NULL
), heads AS (
    SELECT l.queue, l.credit, h.tid, h.id, h.schedule_at,
           l.priority + floor(extract(epoch FROM statement_timestamp() - h.schedule_at) / %(ageing)s::float8) AS effective
    FROM levels l CROSS JOIN LATERAL (
        SELECT j.ctid AS tid, j.id, j.schedule_at FROM taskd.jobs j
        WHERE j.status = 'pending' AND j.queue = l.queue AND j.priority = l.priority AND j.schedule_at <= statement_timestamp()
        ORDER BY j.schedule_at, j.id LIMIT l.credit) h
), best AS MATERIALIZED (
    SELECT tid, place FROM (
        SELECT tid, id, credit, row_number() OVER (PARTITION BY queue ORDER BY effective DESC, schedule_at, id) AS place FROM heads) r
    WHERE place <= credit
    ORDER BY id  -- the order in which every statement locks several jobs
), moved AS (
    UPDATE taskd.jobs j SET status = 'queued', queued_at = clock_timestamp(), dispatch_seq = j.dispatch_seq + 1
    FROM best WHERE j.ctid = best.tid AND j.status || '' = 'pending' AND EXISTS (SELECT FROM term)
    RETURNING j.id, j.dispatch_seq, j.queue, j.priority, j.queued_at - j.schedule_at AS lag, best.place
)
SELECT (SELECT count(*) FROM term),
       (SELECT extract(epoch FROM min(n.at) - clock_timestamp())::float8 FROM (
            SELECT (SELECT j.schedule_at FROM taskd.jobs j
                    WHERE j.status = 'pending' AND j.queue = l.queue AND j.priority = l.priority
                      AND j.schedule_at > statement_timestamp()
                    ORDER BY j.schedule_at LIMIT 1) AS at
            FROM levels l) n),
       (SELECT extract(epoch FROM max(lag))::float8 FROM moved),
       moved.id, moved.dispatch_seq, moved.queue, moved.priority
FROM (VALUES (1)) AS always (one) LEFT JOIN moved ON true
ORDER BY moved.place
