-- Ends a token, unless it has ended already.
UPDATE taskd.tokens SET revoked_at = clock_timestamp(), revoked_by = %(who)s
WHERE id = %(token_id)s AND revoked_at IS NULL
RETURNING name
