-- Finds what the attempts of several jobs have said.
SELECT job_id, attempt, line, body FROM taskd.logs WHERE job_id = ANY (%(ids)s::bigint[]) ORDER BY job_id, attempt, line
