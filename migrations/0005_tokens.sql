-- API tokens. The secret itself is nowhere: only its SHA-256, which is enough for 256 random bits.
CREATE TABLE taskd.tokens (
    id         text        PRIMARY KEY,
    name       text        NOT NULL,
    digest     bytea       NOT NULL CHECK (octet_length(digest) = 32),
    scopes     text[]      NOT NULL CHECK (cardinality(scopes) > 0),
    queues     text[]      CHECK (cardinality(queues) > 0), -- NULL: every queue
    rate       float8      CHECK (rate > 0 AND rate < 'infinity'), -- requests a second; NULL: the scheduler's setting
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text        NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text
);
