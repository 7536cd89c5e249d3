-- Finds live jobs by a filter, newest first.
SELECT id FROM taskd.jobs
WHERE id < %(before)s AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(queue)s::text IS NULL OR queue = %(queue)s) AND (%(task)s::text IS NULL OR task = %(task)s)
ORDER BY id DESC LIMIT %(limit)s
