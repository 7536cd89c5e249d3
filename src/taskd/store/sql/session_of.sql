-- Finds the session whose claim an attempt is, if it is one, and PostgreSQL's identifiers of this transaction.
SELECT taskd.session_of(%(job)s::bigint, %(attempt)s::int), pg_backend_pid(), pg_current_xact_id()::text
