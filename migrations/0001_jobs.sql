-- The truth about every job. Live jobs and finished ones are apart: the hot table stays small, and the cost of a dispatch
-- does not grow with history. src/taskd/domain/lifecycle.py has the legal moves; the CHECKs tie each status to its columns.

CREATE SEQUENCE taskd.job_ids AS bigint;

CREATE TABLE taskd.jobs (
    id           bigint PRIMARY KEY,
    status       text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'queued', 'running')),
    task         text        NOT NULL,
    queue        text        NOT NULL,
    priority     smallint    NOT NULL CHECK (priority BETWEEN 0 AND 100),
    attempt      int         NOT NULL DEFAULT 0,   -- raised by a claim and by nothing else
    dispatch_seq int         NOT NULL DEFAULT 0,   -- raised by a dispatch; a claim must name it
    session_id   uuid,
    worker_id    text,
    failures     smallint    NOT NULL DEFAULT 0,
    crashes      smallint    NOT NULL DEFAULT 0,
    losses       smallint    NOT NULL DEFAULT 0,
    max_retries  smallint    NOT NULL CHECK (max_retries >= 0),
    backoff      jsonb       NOT NULL,
    timeout      float8      CHECK (timeout > 0),
    created_at   timestamptz NOT NULL,
    schedule_at  timestamptz NOT NULL,
    queued_at    timestamptz,
    started_at   timestamptz,
    dedupe_key   text        CHECK (length(dedupe_key) <= 255),
    parent_id    bigint,
    error        text,
    metadata     jsonb,
    attempts     jsonb,                            -- the closed attempts, oldest first
    payload      json        NOT NULL,
    CONSTRAINT queued_since CHECK ((status = 'pending') = (queued_at IS NULL)),
    CONSTRAINT running_has_a_claim CHECK (
        (status = 'running') = (session_id IS NOT NULL) AND
        (status = 'running') = (worker_id IS NOT NULL) AND
        (status = 'running') = (started_at IS NOT NULL) AND
        (status <> 'running' OR attempt > 0))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- A row is in the primary key and in exactly one of these, so that each move touches two indexes.
CREATE INDEX jobs_due ON taskd.jobs (queue, priority DESC, schedule_at, id) WHERE status = 'pending';
CREATE INDEX jobs_unclaimed ON taskd.jobs (queued_at) WHERE status = 'queued';
CREATE INDEX jobs_claimed ON taskd.jobs (session_id) WHERE status = 'running';

CREATE TABLE taskd.finished_jobs (
    id           bigint PRIMARY KEY,
    status       text        NOT NULL CHECK (status IN ('completed', 'failed', 'cancelled')),
    task         text        NOT NULL,
    queue        text        NOT NULL,
    priority     smallint    NOT NULL,
    attempt      int         NOT NULL,
    worker_id    text,
    failures     smallint    NOT NULL,
    crashes      smallint    NOT NULL,
    losses       smallint    NOT NULL,
    max_retries  smallint    NOT NULL,
    backoff      jsonb       NOT NULL,
    timeout      float8,
    created_at   timestamptz NOT NULL,
    schedule_at  timestamptz NOT NULL,
    queued_at    timestamptz,
    started_at   timestamptz,
    completed_at timestamptz NOT NULL,
    dedupe_key   text,
    parent_id    bigint,
    outcome      text,                             -- how the last attempt ended; null if there was none
    error        text,
    metadata     jsonb,
    attempts     jsonb,                            -- the closed attempts before the last one
    payload      json        NOT NULL,
    result       json,
    CONSTRAINT completed_by_somebody CHECK (status <> 'completed' OR (worker_id IS NOT NULL AND attempt > 0)),
    CONSTRAINT only_success_has_a_result CHECK (status = 'completed' OR result IS NULL)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- Most jobs complete; this keeps a page of the others quick to find.
CREATE INDEX finished_jobs_unsuccessful ON taskd.finished_jobs (status, id) WHERE status <> 'completed';

-- One row decides who owns a key, for as long as its job is retained.
CREATE TABLE taskd.dedupe_keys (
    key    text   PRIMARY KEY,
    job_id bigint NOT NULL
);

-- How many jobs ended how, one row per source (a worker's session) and status, so that no two writers share a row and a
-- count does not read history.
CREATE TABLE taskd.finished_counts (
    source uuid   NOT NULL,
    status text   NOT NULL,
    n      bigint NOT NULL,
    PRIMARY KEY (source, status)
) WITH (fillfactor = 50);
