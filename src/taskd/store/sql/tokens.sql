-- Finds every token, also ended ones, newest first, and whether it is valid now.
SELECT id, name, digest, scopes, queues, rate, created_at, created_by, expires_at, revoked_at, revoked_by,
       revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
FROM taskd.tokens
ORDER BY created_at DESC, id
