-- Who leads, and which workers live. PostgreSQL mints the epochs; its clock decides the leases.

CREATE TABLE taskd.leader (
    only_row      boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch         bigint      NOT NULL,
    holder        uuid,
    instance_id   text        NOT NULL,
    etcd_revision bigint      NOT NULL,
    renewed_at    timestamptz NOT NULL,
    dispatched    bigint      NOT NULL DEFAULT 0,
    last_dispatch timestamptz
) WITH (fillfactor = 50);

INSERT INTO taskd.leader (epoch, holder, instance_id, etcd_revision, renewed_at) VALUES (0, NULL, '', 0, '-infinity');

CREATE TABLE taskd.sessions (
    id         uuid        PRIMARY KEY,
    worker_id  text        NOT NULL,
    host       jsonb       NOT NULL,
    queues     text[]      NOT NULL,
    slots      int         NOT NULL CHECK (slots > 0),
    began_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    ended_at   timestamptz
) WITH (fillfactor = 50);

-- Two live sessions never share a worker's id.
CREATE UNIQUE INDEX sessions_live ON taskd.sessions (worker_id) WHERE ended_at IS NULL;
