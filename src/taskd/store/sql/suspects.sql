-- Finds those of some deliveries that are current and whose jobs only run alone, with the seconds since their last attempt ended.
SELECT s.* FROM unnest(%(ids)s::bigint[], %(seqs)s::int[]) AS u (id, seq)
CROSS JOIN LATERAL (
    SELECT j.id, j.queue, j.losses,
           extract(epoch FROM clock_timestamp() - coalesce((j.attempts -> -1 ->> 'ended_at')::timestamptz, j.queued_at))::float8
    FROM taskd.jobs j
    WHERE j.id = u.id AND j.status || '' = 'queued' AND j.dispatch_seq = u.seq AND j.losses >= %(suspect_after)s
    OFFSET 0) s
