-- Finds the schedules whose next tick has come or is not worked out yet, without those of some names and revisions.
-- It also answers this server's time, the seconds until the next tick, whether a tick waits for an earlier job, and whether there
-- is any schedule, also a paused one. Ticks that have come go first: at the beginning of a term many are to be worked out anew.
SELECT now.at,
       (SELECT extract(epoch FROM min(next_at) - now.at)::float8 FROM taskd.schedules WHERE paused_at IS NULL AND next_at > now.at),
       EXISTS (SELECT FROM taskd.fires WHERE state = 'waiting'),
       EXISTS (SELECT FROM taskd.schedules),
       s.name, s.cron, s.every, s.tz, s.missed, s.catch_up, s.revision, s.anchor, s.decided_until
FROM (SELECT statement_timestamp() AS at) AS now LEFT JOIN LATERAL (
    SELECT * FROM taskd.schedules d
    WHERE paused_at IS NULL AND (next_at IS NULL OR next_at <= now.at) AND NOT EXISTS (
        SELECT FROM unnest(%(without)s::text[], %(revisions)s::bigint[]) AS w (name, revision)
        WHERE w.name = d.name AND w.revision = d.revision)
    ORDER BY next_at LIMIT %(limit)s
) s ON true
