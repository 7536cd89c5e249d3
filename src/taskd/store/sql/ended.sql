-- Finds the outcomes of those of the given attempts that ended their jobs: by a cancel, or by their own transaction.
SELECT u.id, u.attempt, f.outcome FROM unnest(%(ids)s::bigint[], %(attempts)s::int[]) AS u (id, attempt)
CROSS JOIN LATERAL (
    SELECT f.outcome FROM taskd.finished_jobs f WHERE f.id = u.id AND f.attempt = u.attempt AND f.outcome IS NOT NULL OFFSET 0) f
