-- Moves lost dispatches of a shard from queued back to pending, if the term still holds and the dispatch is still the current one.
WITH term AS MATERIALIZED (
    {{term_fence}}
), lost AS MATERIALIZED (
    SELECT l.tid FROM unnest(%(ids)s::bigint[], %(seqs)s::int[]) AS u (id, seq)
    CROSS JOIN LATERAL (
        SELECT j.ctid AS tid FROM taskd.jobs j
        WHERE j.id = u.id AND j.status || '' = 'queued' AND j.dispatch_seq = u.seq
          AND taskd.shard_of(j.queue, %(shards)s) = %(shard)s FOR UPDATE) l
), moved AS (
    UPDATE taskd.jobs j SET status = 'pending', queued_at = NULL
    FROM lost WHERE j.ctid = lost.tid AND EXISTS (SELECT FROM term)
    RETURNING j.id
)
SELECT (SELECT count(*) FROM term), (SELECT count(*) FROM moved)
