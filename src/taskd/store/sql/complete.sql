-- Completes a job in a task's own transaction, under its claim; raises TD001 if that does not hold.
SELECT taskd.complete(%(job)s::bigint, %(attempt)s::int, %(session)s::uuid, %(result)s::json, %(progress)s::json)
