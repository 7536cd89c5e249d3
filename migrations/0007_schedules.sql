-- Schedules, and their ticks: the row of a tick is what keeps it from making two jobs.

CREATE TABLE taskd.schedules (
    name          text        PRIMARY KEY,
    cron          text,
    every         float8      CHECK (every >= 1),
    tz            text        NOT NULL,
    task          text        NOT NULL,
    queue         text        NOT NULL,
    priority      smallint    NOT NULL CHECK (priority BETWEEN 0 AND 100),
    max_retries   smallint    NOT NULL CHECK (max_retries >= 0),
    backoff       jsonb       NOT NULL,
    timeout       float8      CHECK (timeout > 0),
    metadata      jsonb,
    payload       json        NOT NULL,
    missed        text        NOT NULL CHECK (missed IN ('skip', 'once', 'all')),
    catch_up      smallint    NOT NULL CHECK (catch_up BETWEEN 1 AND 1000),
    overlap       text        NOT NULL CHECK (overlap IN ('allow', 'skip', 'queue')),
    app           text,                          -- whose declaration it is; NULL: made by hand
    revision      bigint      NOT NULL DEFAULT 1, -- raised by every change: what was worked out before it does not hold
    anchor        timestamptz NOT NULL,          -- what an interval counts from
    decided_until timestamptz NOT NULL,          -- every tick up to here is done with
    next_at       timestamptz,                   -- the first one after that; NULL: the leader has not worked it out yet
    paused_at     timestamptz,
    paused_by     text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT cron_or_every CHECK ((cron IS NULL) <> (every IS NULL)),
    CONSTRAINT paused_by_somebody CHECK ((paused_at IS NULL) = (paused_by IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX schedules_due ON taskd.schedules (next_at) WHERE paused_at IS NULL;

-- No foreign key: the ticks of a schedule that was removed stay, so that one made anew under its name cannot repeat them.
CREATE TABLE taskd.fires (
    schedule text        NOT NULL,
    fire_at  timestamptz NOT NULL, -- the tick
    fired_at timestamptz NOT NULL, -- when it was decided
    state    text        NOT NULL CHECK (state IN ('open', 'closed', 'waiting', 'skipped')), -- open: its job may be live
    job_id   bigint,
    PRIMARY KEY (schedule, fire_at),
    CONSTRAINT open_and_closed_have_a_job CHECK ((state IN ('open', 'closed')) = (job_id IS NOT NULL))
);

CREATE INDEX fires_open ON taskd.fires (schedule, fire_at) WHERE state = 'open';
-- One at most waits.
CREATE UNIQUE INDEX fires_waiting ON taskd.fires (schedule) WHERE state = 'waiting';
CREATE INDEX fires_by_age ON taskd.fires (fired_at);
