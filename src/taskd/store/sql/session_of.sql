-- Finds the session whose claim an attempt is, if it is one.
SELECT taskd.session_of(%(job)s::bigint, %(attempt)s::int)
