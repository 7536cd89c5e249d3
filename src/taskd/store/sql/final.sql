-- Finds those of the given jobs that are no longer live.
SELECT u.id FROM unnest(%(ids)s::bigint[]) AS u (id) WHERE NOT EXISTS (SELECT FROM taskd.jobs j WHERE j.id = u.id OFFSET 0)
