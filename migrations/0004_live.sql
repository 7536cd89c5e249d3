-- Live configuration: every version that ever was. The latest one is the truth; etcd only spreads it.
CREATE TABLE taskd.live_versions (
    version bigint      PRIMARY KEY CHECK (version > 0),
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    who     text        NOT NULL,
    what    text        NOT NULL,
    "values" jsonb      NOT NULL
);
