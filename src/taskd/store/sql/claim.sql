-- Moves dispatched jobs from queued to running for a live session: the attempt goes up here and nowhere else.
-- The session's row is locked against its end (FOR UPDATE), not against its heartbeat. It is live until it is ended: a lease that
-- ran out while PostgreSQL stood still is good again with the next heartbeat. Setting dispatch_seq changes nothing: it records
-- the dispatch that the claim named, for an audit trail.
-- A job that has lost too many workers is claimed only by a session that runs nothing else and says that it will claim nothing
-- else meanwhile (alone).
WITH alive AS MATERIALIZED (
    SELECT worker_id FROM taskd.sessions
    WHERE id = %(session)s AND ended_at IS NULL FOR KEY SHARE
), offered AS MATERIALIZED (
    SELECT o.tid, u.seq FROM unnest(%(ids)s::bigint[], %(seqs)s::int[]) AS u (id, seq)
    CROSS JOIN LATERAL (
        SELECT j.ctid AS tid FROM taskd.jobs j
        WHERE j.id = u.id AND j.status || '' = 'queued' AND j.dispatch_seq = u.seq
          AND (j.losses < %(suspect_after)s OR (%(alone)s AND NOT EXISTS (
                  SELECT FROM taskd.jobs c WHERE c.session_id = %(session)s AND c.status = 'running')))
        FOR UPDATE) o
), claimed AS (
    UPDATE taskd.jobs j SET status = 'running', attempt = j.attempt + 1, session_id = %(session)s,
           worker_id = (SELECT worker_id FROM alive), started_at = clock_timestamp(), dispatch_seq = offered.seq
    FROM offered WHERE j.ctid = offered.tid AND EXISTS (SELECT FROM alive)
    RETURNING {{j.claimed_columns}}
), ours AS (
    -- The jobs of an earlier try whose answer was lost.
    SELECT o.* FROM unnest(%(ids)s::bigint[], %(seqs)s::int[]) AS u (id, seq)
    CROSS JOIN LATERAL (
        SELECT {{j.claimed_columns}}
        FROM taskd.jobs j
        WHERE j.id = u.id AND j.status || '' = 'running' AND j.dispatch_seq = u.seq AND j.session_id = %(session)s
        OFFSET 0) o
    WHERE %(again)s
), epochs AS MATERIALIZED (
    -- The epochs of all shards at once: a lookup for each job would cost a quarter of the claim.
    SELECT first.shards, array_agg(coalesce(l.epoch, 0) ORDER BY n) AS epoch
    FROM taskd.leader first CROSS JOIN generate_series(0, first.shards - 1) n LEFT JOIN taskd.leader l ON l.shard = n
    WHERE first.shard = 0 GROUP BY first.shards
)
SELECT (SELECT count(*) FROM alive), CASE WHEN e.shards = 1 THEN e.epoch[1] ELSE e.epoch[1 + taskd.shard_of(c.queue, e.shards)] END, c.*,
       CASE WHEN c.attempt > 1 THEN (SELECT n.checkpoint FROM taskd.notes n WHERE n.job_id = c.id) END
FROM epochs e LEFT JOIN (SELECT * FROM claimed UNION ALL SELECT * FROM ours) c ON true
