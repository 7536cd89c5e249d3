-- Reads the state of a job after an attempt whose COMMIT was not answered.
SELECT taskd.fate_of(%(job)s::bigint, %(attempt)s::int)
