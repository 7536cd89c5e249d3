-- Finds every token there ever was, newest first, and whether it holds now.
SELECT id, name, digest, scopes, queues, rate, created_at, created_by, expires_at, revoked_at, revoked_by,
       revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
FROM taskd.tokens
ORDER BY created_at DESC, id
