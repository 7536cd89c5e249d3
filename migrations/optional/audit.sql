-- An audit trail: each move of a job, each term and each session, written by triggers in the transaction of the move itself.
-- `taskd migrate --audit` applies it, and may be repeated. Every move adds a row, and no row is ever removed.

CREATE TABLE IF NOT EXISTS taskd.job_events (
    job_id       bigint      NOT NULL,
    version      int         NOT NULL,   -- 1, 2, 3 ... of each job
    from_status  text,                   -- null: the job was submitted
    to_status    text        NOT NULL,   -- 'lost': deleted, and not finished
    task         text        NOT NULL,
    queue        text        NOT NULL,
    priority     int         NOT NULL,
    attempt      int         NOT NULL,   -- attempt, worker and session of the move:
    worker_id    text,                   -- those that ended, for a running job
    session_id   uuid,
    dispatch_seq int,
    epoch        bigint,                 -- the latest epoch of the leader that wrote this; null for other writers
    failures     int         NOT NULL,
    crashes      int         NOT NULL,
    losses       int         NOT NULL,
    schedule_at  timestamptz NOT NULL,
    dedupe_key   text,
    by           text        NOT NULL,   -- the connection's application_name
    xid          xid8        NOT NULL,
    statement_at timestamptz NOT NULL,
    at           timestamptz NOT NULL,
    PRIMARY KEY (job_id, version)
);

CREATE TABLE IF NOT EXISTS taskd.term_events (
    epoch       bigint      NOT NULL,
    holder      uuid,
    instance_id text        NOT NULL,
    what        text        NOT NULL CHECK (what IN ('takeover', 'resign')),
    xid         xid8        NOT NULL,
    at          timestamptz NOT NULL
);
-- For a trail that is older than shards.
ALTER TABLE taskd.term_events
    ADD COLUMN IF NOT EXISTS shard int NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS shards int NOT NULL DEFAULT 1; -- the number of shards that the leader counts, from which its queues follow

CREATE TABLE IF NOT EXISTS taskd.session_events (
    session_id uuid        NOT NULL,
    worker_id  text        NOT NULL,
    what       text        NOT NULL CHECK (what IN ('open', 'renew', 'end')),
    expires_at timestamptz NOT NULL,
    by         text        NOT NULL,
    at         timestamptz NOT NULL
);

-- Output of attempts: a row for each attempt and statement that stored some of it.
CREATE TABLE IF NOT EXISTS taskd.output_events (
    job_id       bigint      NOT NULL,
    attempt      int         NOT NULL,
    by           text        NOT NULL,
    statement_at timestamptz NOT NULL,
    at           timestamptz NOT NULL
);

CREATE OR REPLACE FUNCTION taskd.audit_version(job bigint) RETURNS int LANGUAGE sql AS
    'SELECT coalesce(max(version), 0) + 1 FROM taskd.job_events WHERE job_id = job';

-- The epoch of the writing connection, if that belongs to a leader.
CREATE OR REPLACE FUNCTION taskd.audit_epoch() RETURNS bigint LANGUAGE sql AS $$
    SELECT max(epoch) FROM taskd.term_events
    WHERE what = 'takeover' AND 'taskd:leader:' || holder = current_setting('application_name')
$$;

-- The triggers run once for a statement, not for each row: a batch of a thousand jobs calls each once. Their functions switch
-- on the joins that a connection switches off for its own statements.
CREATE OR REPLACE FUNCTION taskd.audit_submit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE writer_epoch bigint := taskd.audit_epoch();
BEGIN
    INSERT INTO taskd.job_events
    SELECT id, taskd.audit_version(id), NULL, status, task, queue, priority, attempt, worker_id, session_id, dispatch_seq,
           writer_epoch, failures, crashes, losses, schedule_at, dedupe_key, current_setting('application_name'),
           pg_current_xact_id(), statement_timestamp(), clock_timestamp()
    FROM became;
    RETURN NULL;
END $$;

-- An attempt or a dispatch_seq that changes without a move is an error. It is recorded as a move to the same status.
CREATE OR REPLACE FUNCTION taskd.audit_move() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = on SET enable_mergejoin = on AS $$
DECLARE writer_epoch bigint := taskd.audit_epoch();
BEGIN
    INSERT INTO taskd.job_events
    SELECT n.id, taskd.audit_version(n.id), o.status, n.status, n.task, n.queue, n.priority,
           CASE WHEN o.status = 'running' THEN o.attempt ELSE n.attempt END,
           CASE WHEN o.status = 'running' THEN o.worker_id ELSE n.worker_id END,
           CASE WHEN o.status = 'running' THEN o.session_id ELSE n.session_id END,
           n.dispatch_seq, writer_epoch, n.failures, n.crashes, n.losses, n.schedule_at, n.dedupe_key,
           current_setting('application_name'), pg_current_xact_id(), statement_timestamp(), clock_timestamp()
    FROM was o JOIN became n ON n.id = o.id
    WHERE o.status <> n.status
       OR o.status <> 'running' AND (o.attempt, o.dispatch_seq) <> (n.attempt, n.dispatch_seq)
       OR n.status = 'running' AND (o.attempt, o.dispatch_seq, o.session_id) <> (n.attempt, n.dispatch_seq, n.session_id);
    RETURN NULL;
END $$;

-- A finished job leaves `jobs` in the statement that writes `finished_jobs`; both changes are done when this runs.
CREATE OR REPLACE FUNCTION taskd.audit_end() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = on SET enable_mergejoin = on AS $$
DECLARE writer_epoch bigint := taskd.audit_epoch();
BEGIN
    INSERT INTO taskd.job_events
    SELECT o.id, taskd.audit_version(o.id), o.status, coalesce(f.status, 'lost'), o.task, o.queue, o.priority, o.attempt,
           o.worker_id, o.session_id, o.dispatch_seq, writer_epoch, coalesce(f.failures, o.failures),
           coalesce(f.crashes, o.crashes), coalesce(f.losses, o.losses), coalesce(f.schedule_at, o.schedule_at), o.dedupe_key,
           current_setting('application_name'), pg_current_xact_id(), statement_timestamp(), clock_timestamp()
    FROM was o LEFT JOIN LATERAL (SELECT * FROM taskd.finished_jobs WHERE id = o.id OFFSET 0) f ON true;
    RETURN NULL;
END $$;

-- A job that becomes history without leaving `jobs`, or a second time, gets an event of its own.
CREATE OR REPLACE FUNCTION taskd.audit_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO taskd.job_events
    SELECT n.id, coalesce(e.version, 0) + 1, e.to_status, n.status, n.task, n.queue, n.priority, n.attempt, n.worker_id, NULL,
           e.dispatch_seq, taskd.audit_epoch(), n.failures, n.crashes, n.losses, n.schedule_at, n.dedupe_key,
           current_setting('application_name'), pg_current_xact_id(), statement_timestamp(), clock_timestamp()
    FROM became n LEFT JOIN LATERAL (
        SELECT * FROM taskd.job_events WHERE job_id = n.id ORDER BY version DESC LIMIT 1) e ON true
    WHERE e.version IS NULL OR e.to_status = 'lost'
       OR e.to_status IN ('completed', 'failed', 'cancelled') AND e.xid <> pg_current_xact_id()
       OR EXISTS (SELECT FROM taskd.jobs j WHERE j.id = n.id OFFSET 0);
    RETURN NULL;
END $$;

-- A shard's first takeover inserts its row, so OLD is null then.
CREATE OR REPLACE FUNCTION taskd.audit_term() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO taskd.term_events VALUES (
        NEW.epoch, CASE WHEN NEW.holder IS NULL THEN OLD.holder ELSE NEW.holder END, NEW.instance_id,
        CASE WHEN NEW.holder IS NULL THEN 'resign' ELSE 'takeover' END, pg_current_xact_id(), clock_timestamp(),
        NEW.shard, NEW.shards);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION taskd.audit_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO taskd.session_events VALUES (NEW.id, NEW.worker_id, TG_ARGV[0], NEW.expires_at,
                                             current_setting('application_name'), clock_timestamp());
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION taskd.audit_output() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO taskd.output_events
    SELECT job_id, attempt, current_setting('application_name'), statement_timestamp(), clock_timestamp() FROM became
    GROUP BY job_id, attempt;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER audit_submit AFTER INSERT ON taskd.jobs
    REFERENCING NEW TABLE AS became FOR EACH STATEMENT EXECUTE FUNCTION taskd.audit_submit();
CREATE OR REPLACE TRIGGER audit_move AFTER UPDATE ON taskd.jobs
    REFERENCING OLD TABLE AS was NEW TABLE AS became FOR EACH STATEMENT EXECUTE FUNCTION taskd.audit_move();
CREATE OR REPLACE TRIGGER audit_end AFTER DELETE ON taskd.jobs
    REFERENCING OLD TABLE AS was FOR EACH STATEMENT EXECUTE FUNCTION taskd.audit_end();
CREATE OR REPLACE TRIGGER audit_history AFTER INSERT ON taskd.finished_jobs
    REFERENCING NEW TABLE AS became FOR EACH STATEMENT EXECUTE FUNCTION taskd.audit_history();
CREATE OR REPLACE TRIGGER audit_output AFTER INSERT ON taskd.logs
    REFERENCING NEW TABLE AS became FOR EACH STATEMENT EXECUTE FUNCTION taskd.audit_output();
CREATE OR REPLACE TRIGGER audit_first_term AFTER INSERT ON taskd.leader FOR EACH ROW EXECUTE FUNCTION taskd.audit_term();
CREATE OR REPLACE TRIGGER audit_term AFTER UPDATE ON taskd.leader FOR EACH ROW
    WHEN (OLD.epoch <> NEW.epoch OR OLD.holder IS DISTINCT FROM NEW.holder) EXECUTE FUNCTION taskd.audit_term();
CREATE OR REPLACE TRIGGER audit_session_open AFTER INSERT ON taskd.sessions FOR EACH ROW
    EXECUTE FUNCTION taskd.audit_session('open');
CREATE OR REPLACE TRIGGER audit_session_renew AFTER UPDATE ON taskd.sessions FOR EACH ROW
    WHEN (OLD.expires_at <> NEW.expires_at) EXECUTE FUNCTION taskd.audit_session('renew');
CREATE OR REPLACE TRIGGER audit_session_end AFTER UPDATE ON taskd.sessions FOR EACH ROW
    WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL) EXECUTE FUNCTION taskd.audit_session('end');

-- Leaders that took over before the trail existed.
INSERT INTO taskd.term_events
SELECT epoch, holder, instance_id, 'takeover', pg_current_xact_id(), clock_timestamp(), shard, shards
FROM taskd.leader l
WHERE holder IS NOT NULL AND NOT EXISTS (SELECT FROM taskd.term_events t WHERE (t.shard, t.epoch) = (l.shard, l.epoch));
