-- Says what became of an attempt whose COMMIT was not answered.
SELECT taskd.fate_of(%(job)s::bigint, %(attempt)s::int)
