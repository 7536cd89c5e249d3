-- Ends a token, if it was not ended before.
UPDATE taskd.tokens SET revoked_at = clock_timestamp(), revoked_by = %(who)s
WHERE id = %(token_id)s AND revoked_at IS NULL
RETURNING name
