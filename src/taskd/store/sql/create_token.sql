-- Stores a new token.
INSERT INTO taskd.tokens (id, name, digest, scopes, queues, rate, created_by, expires_at)
VALUES (%(token_id)s, %(name)s, %(digest)s, %(scopes)s, %(queues)s, %(rate)s, %(who)s,
        clock_timestamp() + make_interval(secs => %(lifetime)s))
RETURNING expires_at
