-- Finds those of the given attempts that ended because their job was cancelled while they ran.
SELECT u.id, u.attempt FROM unnest(%(ids)s::bigint[], %(attempts)s::int[]) AS u (id, attempt)
WHERE EXISTS (
    SELECT FROM taskd.finished_jobs f WHERE f.id = u.id AND f.attempt = u.attempt AND f.outcome = 'cancelled' OFFSET 0)
