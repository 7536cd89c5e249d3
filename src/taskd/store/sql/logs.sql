-- Finds the output of the attempts of one job, from a position on.
SELECT attempt, line, body FROM taskd.logs
WHERE job_id = %(id)s AND (attempt, line) > (%(attempt)s, %(line)s) AND (%(only)s::int IS NULL OR attempt = %(only)s)
ORDER BY attempt, line LIMIT %(limit)s
