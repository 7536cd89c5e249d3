-- Finds jobs that did not complete and were not retried yet, newest first.
SELECT id FROM taskd.finished_jobs
WHERE id < %(before)s AND status = %(status)s AND status <> 'completed' AND retried_as IS NULL
  AND (%(queue)s::text IS NULL OR queue = %(queue)s) AND (%(task)s::text IS NULL OR task = %(task)s)
ORDER BY id DESC LIMIT %(limit)s
