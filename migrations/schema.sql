-- The schema that all migrations together make. `make schema` writes this file from a migrated database: do not edit it.

SET check_function_bodies = off;  -- functions stand in alphabetical order here

CREATE SCHEMA taskd;

CREATE SEQUENCE taskd.job_ids AS bigint;

CREATE TABLE taskd.dedupe_keys (
    key    text   NOT NULL,
    job_id bigint NOT NULL,
    CONSTRAINT dedupe_keys_pkey PRIMARY KEY (key)
);

CREATE TABLE taskd.finished_counts (
    source uuid   NOT NULL,
    status text   NOT NULL,
    n      bigint NOT NULL,
    CONSTRAINT finished_counts_pkey PRIMARY KEY (source, status)
) WITH (fillfactor=50);

CREATE TABLE taskd.finished_jobs (
    id           bigint      NOT NULL,
    status       text        NOT NULL,
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
    outcome      text,
    error        text,
    metadata     jsonb,
    attempts     jsonb,
    payload      json        NOT NULL,
    result       json,
    retried_as   bigint,
    progress     json,
    traceback    text,
    CONSTRAINT finished_jobs_pkey PRIMARY KEY (id),
    CONSTRAINT completed_by_somebody CHECK (status <> 'completed' OR worker_id IS NOT NULL AND attempt > 0),
    CONSTRAINT finished_jobs_status_check CHECK (status = ANY (ARRAY['completed', 'failed', 'cancelled'])),
    CONSTRAINT only_success_has_a_result CHECK (status = 'completed' OR result IS NULL)
) WITH (autovacuum_vacuum_insert_scale_factor=0.1);

CREATE INDEX finished_jobs_unsuccessful ON taskd.finished_jobs USING btree (status, id) WHERE (status <> 'completed');

CREATE TABLE taskd.fires (
    schedule text        NOT NULL,
    fire_at  timestamptz NOT NULL,
    fired_at timestamptz NOT NULL,
    state    text        NOT NULL,
    job_id   bigint,
    CONSTRAINT fires_pkey PRIMARY KEY (schedule, fire_at),
    CONSTRAINT fires_state_check CHECK (state = ANY (ARRAY['open', 'closed', 'waiting', 'skipped'])),
    CONSTRAINT open_and_closed_have_a_job CHECK ((state = ANY (ARRAY['open', 'closed'])) = (job_id IS NOT NULL))
);

CREATE INDEX fires_by_age ON taskd.fires USING btree (fired_at);
CREATE INDEX fires_by_job ON taskd.fires USING btree (job_id) WHERE (job_id IS NOT NULL);
CREATE INDEX fires_open ON taskd.fires USING btree (schedule, fire_at) WHERE (state = 'open');
CREATE UNIQUE INDEX fires_waiting ON taskd.fires USING btree (schedule) WHERE (state = 'waiting');

CREATE TABLE taskd.jobs (
    id           bigint      NOT NULL,
    status       text        NOT NULL DEFAULT 'pending',
    task         text        NOT NULL,
    queue        text        NOT NULL,
    priority     smallint    NOT NULL,
    attempt      int         NOT NULL DEFAULT 0,
    dispatch_seq int         NOT NULL DEFAULT 0,
    session_id   uuid,
    worker_id    text,
    failures     smallint    NOT NULL DEFAULT 0,
    crashes      smallint    NOT NULL DEFAULT 0,
    losses       smallint    NOT NULL DEFAULT 0,
    max_retries  smallint    NOT NULL,
    backoff      jsonb       NOT NULL,
    timeout      float8,
    created_at   timestamptz NOT NULL,
    schedule_at  timestamptz NOT NULL,
    queued_at    timestamptz,
    started_at   timestamptz,
    dedupe_key   text,
    parent_id    bigint,
    error        text,
    metadata     jsonb,
    attempts     jsonb,
    payload      json        NOT NULL,
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_dedupe_key_check CHECK (length(dedupe_key) <= 255),
    CONSTRAINT jobs_max_retries_check CHECK (max_retries >= 0),
    CONSTRAINT jobs_priority_check CHECK (priority >= 0 AND priority <= 100),
    CONSTRAINT jobs_status_check CHECK (status = ANY (ARRAY['pending', 'queued', 'running'])),
    CONSTRAINT jobs_timeout_check CHECK (timeout > 0::double precision),
    CONSTRAINT queued_since CHECK ((status = 'pending') = (queued_at IS NULL)),
    CONSTRAINT running_has_a_claim CHECK ((status = 'running') = (session_id IS NOT NULL)
        AND (status = 'running') = (worker_id IS NOT NULL)
        AND (status = 'running') = (started_at IS NOT NULL)
        AND (status <> 'running' OR attempt > 0))
) WITH (fillfactor=70, autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_cost_delay=0);

CREATE INDEX jobs_claimed ON taskd.jobs USING btree (session_id) WHERE (status = 'running');
CREATE INDEX jobs_due ON taskd.jobs USING btree (queue, priority DESC, schedule_at, id) WHERE (status = 'pending');
CREATE INDEX jobs_unclaimed ON taskd.jobs USING btree (queued_at) WHERE (status = 'queued');

CREATE TABLE taskd.leader (
    epoch         bigint      NOT NULL,
    holder        uuid,
    instance_id   text        NOT NULL,
    etcd_revision bigint      NOT NULL,
    renewed_at    timestamptz NOT NULL,
    dispatched    bigint      NOT NULL DEFAULT 0,
    last_dispatch timestamptz,
    shard         smallint    NOT NULL,
    shards        smallint    NOT NULL,
    only_row      boolean     GENERATED ALWAYS AS (shard = 0) STORED,
    CONSTRAINT leader_pkey PRIMARY KEY (shard),
    CONSTRAINT leader_check CHECK (shard < shards),
    CONSTRAINT leader_shard_check CHECK (shard >= 0 AND shard <= 63),
    CONSTRAINT leader_shards_check CHECK (shards >= 1 AND shards <= 64)
) WITH (fillfactor=50);

CREATE TABLE taskd.live_versions (
    version  bigint      NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    who      text        NOT NULL,
    what     text        NOT NULL,
    "values" jsonb       NOT NULL,
    CONSTRAINT live_versions_pkey PRIMARY KEY (version),
    CONSTRAINT live_versions_version_check CHECK (version > 0)
);

CREATE TABLE taskd.logs (
    job_id  bigint   NOT NULL,
    attempt int      NOT NULL,
    line    int      NOT NULL,
    lines   smallint NOT NULL,
    body    json     NOT NULL,
    CONSTRAINT logs_pkey PRIMARY KEY (job_id, attempt, line),
    CONSTRAINT logs_lines_check CHECK (lines > 0)
) WITH (autovacuum_vacuum_insert_scale_factor=0.1);

CREATE TABLE taskd.migrations (
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT migrations_pkey PRIMARY KEY (name)
);

CREATE TABLE taskd.notes (
    job_id     bigint NOT NULL,
    progress   json,
    checkpoint json,
    CONSTRAINT notes_pkey PRIMARY KEY (job_id)
) WITH (fillfactor=50);

CREATE TABLE taskd.schedules (
    name          text        NOT NULL,
    cron          text,
    every         float8,
    tz            text        NOT NULL,
    task          text        NOT NULL,
    queue         text        NOT NULL,
    priority      smallint    NOT NULL,
    max_retries   smallint    NOT NULL,
    backoff       jsonb       NOT NULL,
    timeout       float8,
    metadata      jsonb,
    payload       json        NOT NULL,
    missed        text        NOT NULL,
    catch_up      smallint    NOT NULL,
    overlap       text        NOT NULL,
    app           text,
    revision      bigint      NOT NULL DEFAULT 1,
    anchor        timestamptz NOT NULL,
    decided_until timestamptz NOT NULL,
    next_at       timestamptz,
    paused_at     timestamptz,
    paused_by     text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT schedules_pkey PRIMARY KEY (name),
    CONSTRAINT cron_or_every CHECK ((cron IS NULL) <> (every IS NULL)),
    CONSTRAINT paused_by_somebody CHECK ((paused_at IS NULL) = (paused_by IS NULL)),
    CONSTRAINT schedules_catch_up_check CHECK (catch_up >= 1 AND catch_up <= 1000),
    CONSTRAINT schedules_every_check CHECK (every >= 1::double precision),
    CONSTRAINT schedules_max_retries_check CHECK (max_retries >= 0),
    CONSTRAINT schedules_missed_check CHECK (missed = ANY (ARRAY['skip', 'once', 'all'])),
    CONSTRAINT schedules_overlap_check CHECK (overlap = ANY (ARRAY['allow', 'skip', 'queue'])),
    CONSTRAINT schedules_priority_check CHECK (priority >= 0 AND priority <= 100),
    CONSTRAINT schedules_timeout_check CHECK (timeout > 0::double precision)
) WITH (fillfactor=70);

CREATE INDEX schedules_due ON taskd.schedules USING btree (next_at) WHERE (paused_at IS NULL);

CREATE TABLE taskd.sessions (
    id         uuid        NOT NULL,
    worker_id  text        NOT NULL,
    host       jsonb       NOT NULL,
    queues     text[]      NOT NULL,
    slots      int         NOT NULL,
    began_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    ended_at   timestamptz,
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_slots_check CHECK (slots > 0)
) WITH (fillfactor=50);

CREATE UNIQUE INDEX sessions_live ON taskd.sessions USING btree (worker_id) WHERE (ended_at IS NULL);

CREATE TABLE taskd.tokens (
    id         text        NOT NULL,
    name       text        NOT NULL,
    digest     bytea       NOT NULL,
    scopes     text[]      NOT NULL,
    queues     text[],
    rate       float8,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text        NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text,
    CONSTRAINT tokens_pkey PRIMARY KEY (id),
    CONSTRAINT tokens_digest_check CHECK (octet_length(digest) = 32),
    CONSTRAINT tokens_queues_check CHECK (cardinality(queues) > 0),
    CONSTRAINT tokens_rate_check CHECK (rate > 0::double precision AND rate < 'Infinity'::double precision),
    CONSTRAINT tokens_scopes_check CHECK (cardinality(scopes) > 0)
);

CREATE OR REPLACE FUNCTION taskd.backoff_fault(backoff jsonb)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT CASE
        WHEN jsonb_typeof(backoff) <> 'object' THEN 'retry_backoff: must be an object with initial, factor, max and jitter'
        WHEN backoff - '{initial,factor,max,jitter}'::text[] <> '{}' THEN 'retry_backoff.'
            || substring((backoff - '{initial,factor,max,jitter}'::text[])::text from '^[{]"((?:[^"\\]|\\.)*)"')
            || ': is no field; the fields are initial, factor, max, jitter'
        WHEN NOT taskd.is_seconds(coalesce(backoff -> 'initial', '0')) THEN 'retry_backoff.initial: must be seconds from 0 to 315360000'
        WHEN NOT taskd.is_seconds(coalesce(backoff -> 'max', '0')) THEN 'retry_backoff.max: must be seconds from 0 to 315360000'
        WHEN NOT (jsonb_typeof(coalesce(backoff -> 'factor', '1')) = 'number'
                  AND coalesce(backoff -> 'factor', '1') >= '1' AND coalesce(backoff -> 'factor', '1') <= '1000')
            THEN 'retry_backoff.factor: must be a number from 1 to 1000'
        WHEN jsonb_typeof(coalesce(backoff -> 'jitter', 'true')) <> 'boolean' THEN 'retry_backoff.jitter: must be true or false'
    END
$function$;

CREATE OR REPLACE FUNCTION taskd.check_jobs(jobs json)
 RETURNS void
 LANGUAGE plpgsql
 STABLE
AS $function$
DECLARE
    checked jsonb;
    most int := coalesce(nullif(current_setting('taskd.max_job_bytes', true), '')::int, 1048576);
    fault text;
    place bigint;
    bytes int;
BEGIN
    BEGIN
        checked := jobs::jsonb;
    EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'taskd: ' || taskd.unstorable(jobs),
            DETAIL = 'Strings can have neither the NUL character (\u0000) nor unpaired surrogates.';
    END;
    IF checked IS NULL OR jsonb_typeof(checked) <> 'array' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'taskd: jobs: must be an array with one object a job';
    END IF;
    SELECT e.place - 1, taskd.job_fault(e.job) INTO place, fault
    FROM jsonb_array_elements(checked) WITH ORDINALITY e (job, place) WHERE taskd.job_fault(e.job) IS NOT NULL LIMIT 1;
    IF fault IS NOT NULL THEN
        fault := CASE WHEN jsonb_array_length(checked) > 1 THEN format('jobs[%s].', place) ELSE '' END || fault;
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'taskd: ' || fault;
    END IF;
    IF octet_length(jobs::text) > most THEN
        SELECT e.place - 1, octet_length((e.job -> 'payload')::text) INTO place, bytes
        FROM json_array_elements(jobs) WITH ORDINALITY e (job, place)
        WHERE octet_length(e.job::text) > most AND octet_length((e.job -> 'payload')::text) > most LIMIT 1;
        IF bytes IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = '54000',
                MESSAGE = format('taskd: %spayload: is larger than %s bytes: store it elsewhere and send a reference',
                                 CASE WHEN jsonb_array_length(checked) > 1 THEN format('jobs[%s].', place) END, most);
        END IF;
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION taskd.complete(job_id bigint, attempt integer, session uuid, result json, progress json DEFAULT NULL::json)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
 SET backslash_quote TO 'safe_encoding'
 SET escape_string_warning TO 'off'
 SET transform_null_equals TO 'off'
 SET array_nulls TO 'on'
 SET quote_all_identifiers TO 'off'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET "TimeZone" TO 'UTC'
 SET timezone_abbreviations TO 'Default'
 SET plan_cache_mode TO 'auto'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
BEGIN
    WITH ended AS MATERIALIZED (
        SELECT j.ctid AS tid FROM taskd.jobs j
        WHERE j.id = $1 AND j.attempt = $2 AND j.session_id = $3 AND j.status || '' = 'running' FOR UPDATE
    ), gone AS (
        DELETE FROM taskd.jobs j USING ended e WHERE j.ctid = e.tid
        RETURNING j.*, coalesce($5, (SELECT n.progress FROM taskd.notes n WHERE n.job_id = j.id)) AS progress
    ), kept AS (
        INSERT INTO taskd.finished_jobs (
            id, status, task, queue, priority, attempt, worker_id, failures, crashes, losses, max_retries, backoff, timeout,
            created_at, schedule_at, queued_at, started_at, completed_at, dedupe_key, parent_id, outcome, error, metadata, attempts,
            payload, result, progress)
        SELECT id, 'completed', task, queue, priority, attempt, worker_id, failures, crashes, losses, max_retries, backoff, timeout,
               created_at, schedule_at, queued_at, started_at, clock_timestamp(), dedupe_key, parent_id, 'completed', NULL, metadata,
               attempts, payload, coalesce($4, 'null'), progress
        FROM gone
        RETURNING id
    ), forgotten AS (
        DELETE FROM taskd.notes n USING gone g WHERE n.job_id = g.id
    )
    INSERT INTO taskd.finished_counts AS f (source, status, n)
    SELECT $3, 'completed', count(*) FROM kept HAVING count(*) > 0
    ON CONFLICT (source, status) DO UPDATE SET n = f.n + excluded.n;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'TD001', MESSAGE = format('taskd: job %s is not attempt %s''s any more', $1, $2);
    END IF;
END
$function$;

REVOKE ALL ON FUNCTION taskd.complete(bigint,integer,uuid,json,json) FROM PUBLIC;

CREATE OR REPLACE FUNCTION taskd.fate_of(job_id bigint, attempt integer)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
 SET backslash_quote TO 'safe_encoding'
 SET escape_string_warning TO 'off'
 SET transform_null_equals TO 'off'
 SET array_nulls TO 'on'
 SET quote_all_identifiers TO 'off'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET "TimeZone" TO 'UTC'
 SET timezone_abbreviations TO 'Default'
 SET plan_cache_mode TO 'auto'
 SET jit TO 'off'
AS $function$
BEGIN
    PERFORM FROM taskd.jobs j WHERE j.id = $1 AND j.attempt = $2 AND j.status = 'running' FOR KEY SHARE;
    IF FOUND THEN
        RETURN 'running';
    END IF;
    RETURN coalesce((SELECT f.outcome FROM taskd.finished_jobs f WHERE f.id = $1 AND f.attempt = $2), 'lost');
END
$function$;

REVOKE ALL ON FUNCTION taskd.fate_of(bigint,integer) FROM PUBLIC;

CREATE OR REPLACE FUNCTION taskd.is_name(value jsonb)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT jsonb_typeof(value) = 'string' AND length(value #>> '{}') <= 255 AND (value #>> '{}') ~ '^[A-Za-z0-9_.:/-]+$'
$function$;

CREATE OR REPLACE FUNCTION taskd.is_plain(metadata jsonb)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT octet_length(metadata::text) <= 256 AND metadata::text ~ '^[{][^][{}]*[}]$'
       AND metadata::text !~ '[0-9]{19}' AND position('"": ' IN metadata::text) = 0
$function$;

CREATE OR REPLACE FUNCTION taskd.is_seconds(value jsonb)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT jsonb_typeof(value) = 'number' AND value >= '0' AND value <= '315360000'
$function$;

CREATE OR REPLACE FUNCTION taskd.is_whole(value jsonb, lowest jsonb, highest jsonb)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT jsonb_typeof(value) = 'number' AND value >= lowest AND value <= highest AND value::text ~ '^-?[0-9]+$'
$function$;

CREATE OR REPLACE FUNCTION taskd.job_fault(job jsonb)
 RETURNS text
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
    SELECT CASE
        WHEN jsonb_typeof(job) <> 'object' THEN 'body: must be an object'
        WHEN NOT job ? 'payload' THEN 'payload: is required'
        WHEN job - '{payload,task,queue,priority,max_retries,retry_backoff,timeout,metadata,parent_id,dedupe_key,schedule_at,delay}'::text[]
             <> '{}' THEN
            substring((job - '{payload,task,queue,priority,max_retries,retry_backoff,timeout,metadata,parent_id,dedupe_key,schedule_at,delay}'::text[]
                      )::text from '^[{]"((?:[^"\\]|\\.)*)"')
            || ': is no field; the fields are payload, task, queue, priority, max_retries, retry_backoff, timeout, metadata, parent_id,'
            || ' dedupe_key, schedule_at, delay'
        WHEN job ? 'task' AND NOT taskd.is_name(job -> 'task') THEN 'task: must be 1 to 255 letters, digits or any of _ . : / -'
        WHEN job ? 'queue' AND NOT taskd.is_name(job -> 'queue') THEN 'queue: must be 1 to 255 letters, digits or any of _ . : / -'
        WHEN job ? 'priority' AND NOT taskd.is_whole(job -> 'priority', '0', '100')
            THEN 'priority: must be a whole number from 0 to 100'
        WHEN job ? 'max_retries' AND NOT taskd.is_whole(job -> 'max_retries', '0', '100')
            THEN 'max_retries: must be a whole number from 0 to 100'
        WHEN job ->> 'parent_id' IS NOT NULL AND NOT taskd.is_whole(job -> 'parent_id', '1', '9223372036854775807')
            THEN 'parent_id: must be the id of a job'
        WHEN job ->> 'timeout' IS NOT NULL AND NOT (taskd.is_seconds(job -> 'timeout') AND (job -> 'timeout') > '0')
            THEN 'timeout: must be seconds above 0, at most 315360000'
        WHEN job ->> 'delay' IS NOT NULL AND NOT taskd.is_seconds(job -> 'delay') THEN 'delay: must be seconds from 0 to 315360000'
        WHEN job ->> 'schedule_at' IS NOT NULL AND taskd.time_fault(job -> 'schedule_at') IS NOT NULL
            THEN 'schedule_at: ' || taskd.time_fault(job -> 'schedule_at')
        WHEN job ->> 'schedule_at' IS NOT NULL AND job ->> 'delay' IS NOT NULL
            THEN 'delay: cannot be given together with schedule_at'
        WHEN job ->> 'dedupe_key' IS NOT NULL AND NOT (
            jsonb_typeof(job -> 'dedupe_key') = 'string' AND length(job ->> 'dedupe_key') BETWEEN 1 AND 255)
            THEN 'dedupe_key: must be a text of 1 to 255 characters'
        WHEN starts_with(job ->> 'dedupe_key', 'idempotency-key:')
            THEN 'dedupe_key: must not begin with idempotency-key:, which is for the header Idempotency-Key'
        WHEN job ->> 'retry_backoff' IS NOT NULL AND taskd.backoff_fault(job -> 'retry_backoff') IS NOT NULL
            THEN taskd.backoff_fault(job -> 'retry_backoff')
        WHEN job ? 'metadata' AND NOT taskd.is_plain(job -> 'metadata') AND taskd.metadata_fault(job -> 'metadata') IS NOT NULL
            THEN 'metadata: ' || taskd.metadata_fault(job -> 'metadata')
        WHEN octet_length((job -> 'payload')::text) > 308 AND taskd.payload_fault(job -> 'payload') IS NOT NULL
            THEN 'payload: ' || taskd.payload_fault(job -> 'payload')
    END
$function$;

CREATE OR REPLACE FUNCTION taskd.metadata_fault(metadata jsonb)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
AS $function$
DECLARE
    entries bigint := 0;
    name text;
    value jsonb;
BEGIN
    IF jsonb_typeof(metadata) <> 'object' THEN
        RETURN 'must be a flat object';
    END IF;
    FOR name, value IN SELECT m.key, m.value FROM jsonb_each(metadata) m LOOP
        entries := entries + 1;
        IF name = '' OR length(name) > 255 THEN
            RETURN 'has a key that is no text of 1 to 255 characters';
        ELSIF jsonb_typeof(value) IN ('object', 'array') THEN
            RETURN 'must be a flat object: its values are texts, numbers, booleans and null';
        ELSIF jsonb_typeof(value) = 'string' AND length(value #>> '{}') > 1024 THEN
            RETURN 'has a text of more than 1024 characters';
        ELSIF jsonb_typeof(value) = 'number' AND value::text !~ '[.]'
              AND NOT (value >= '-9223372036854775808' AND value <= '9223372036854775807') THEN
            RETURN 'has a whole number of over 64 bits';
        END IF;
    END LOOP;
    RETURN CASE WHEN entries > 64 THEN 'has more than 64 entries' END;
END
$function$;

CREATE OR REPLACE FUNCTION taskd.payload_fault(payload jsonb)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE PARALLEL SAFE
AS $function$
DECLARE
    written text := payload::text;
BEGIN
    IF length(written) - length(translate(written, '[{', '')) > 200
       AND jsonb_path_exists(payload, 'strict $.**{200} ? (@.type() == "array" || @.type() == "object")') THEN
        RETURN 'is nested too deeply: at most 200 levels of arrays and objects';
    END IF;
    IF written ~ '[0-9]{103}[0-9]{103}[0-9]{103}' AND jsonb_path_exists(
        payload, 'strict $.** ? (@.type() == "number" && (@ >= 1.797693134862315808e308 || @ <= -1.797693134862315808e308))') THEN
        RETURN 'has a number that is out of range';
    END IF;
    RETURN NULL;
END
$function$;

CREATE OR REPLACE FUNCTION taskd.session_of(job_id bigint, attempt integer)
 RETURNS uuid
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
 SET backslash_quote TO 'safe_encoding'
 SET escape_string_warning TO 'off'
 SET transform_null_equals TO 'off'
 SET array_nulls TO 'on'
 SET quote_all_identifiers TO 'off'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET "TimeZone" TO 'UTC'
 SET timezone_abbreviations TO 'Default'
 SET plan_cache_mode TO 'auto'
 SET jit TO 'off'
AS $function$
    SELECT j.session_id FROM taskd.jobs j WHERE j.id = $1 AND j.attempt = $2 AND j.status = 'running'
$function$;

REVOKE ALL ON FUNCTION taskd.session_of(bigint,integer) FROM PUBLIC;

CREATE OR REPLACE FUNCTION taskd.shard_of(queue text, shards integer)
 RETURNS integer
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT CASE WHEN shards = 1 THEN 0
           ELSE (('x' || encode(substr(sha256(convert_to(queue, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint % shards)::int END
$function$;

CREATE OR REPLACE FUNCTION taskd.submit(task text, payload jsonb, queue text DEFAULT NULL::text, priority integer DEFAULT NULL::integer, dedupe_key text DEFAULT NULL::text, schedule_at timestamp with time zone DEFAULT NULL::timestamp with time zone, delay double precision DEFAULT NULL::double precision, max_retries integer DEFAULT NULL::integer, retry_backoff jsonb DEFAULT NULL::jsonb, timeout double precision DEFAULT NULL::double precision, metadata jsonb DEFAULT NULL::jsonb, parent_id bigint DEFAULT NULL::bigint, OUT id bigint, OUT duplicate boolean)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
 SET backslash_quote TO 'safe_encoding'
 SET escape_string_warning TO 'off'
 SET transform_null_equals TO 'off'
 SET array_nulls TO 'on'
 SET quote_all_identifiers TO 'off'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET "TimeZone" TO 'UTC'
 SET timezone_abbreviations TO 'Default'
 SET plan_cache_mode TO 'auto'
 SET jit TO 'off'
AS $function$
DECLARE
    given jsonb := jsonb_strip_nulls(jsonb_build_object(
        'task', task, 'queue', queue, 'priority', priority, 'dedupe_key', dedupe_key, 'delay', delay, 'max_retries', max_retries,
        'retry_backoff', retry_backoff, 'timeout', timeout, 'parent_id', parent_id, 'schedule_at', CASE
            WHEN isfinite(schedule_at) THEN to_char(schedule_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            ELSE schedule_at::text END));
BEGIN
    IF payload IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'taskd: payload: is required (NULL is none; JSON''s null is ''null'')';
    ELSIF task IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'taskd: task: is required';
    END IF;
    given := given || jsonb_build_object('payload', payload);
    IF metadata IS NOT NULL THEN
        given := given || jsonb_build_object('metadata', metadata);
    END IF;
    SELECT s.id, s.duplicate INTO id, duplicate FROM taskd.submit_many(json_build_array(given)) s;
END
$function$;

REVOKE ALL ON FUNCTION taskd.submit(text,jsonb,text,integer,text,timestamp with time zone,double precision,integer,jsonb,double precision,jsonb,bigint) FROM PUBLIC;

CREATE OR REPLACE FUNCTION taskd.submit_many(jobs json)
 RETURNS TABLE(id bigint, duplicate boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET standard_conforming_strings TO 'on'
 SET backslash_quote TO 'safe_encoding'
 SET escape_string_warning TO 'off'
 SET transform_null_equals TO 'off'
 SET array_nulls TO 'on'
 SET quote_all_identifiers TO 'off'
 SET extra_float_digits TO '1'
 SET bytea_output TO 'hex'
 SET "DateStyle" TO 'ISO, MDY'
 SET "IntervalStyle" TO 'postgres'
 SET "TimeZone" TO 'UTC'
 SET timezone_abbreviations TO 'Default'
 SET plan_cache_mode TO 'auto'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
BEGIN
    PERFORM taskd.check_jobs($1);
    RETURN QUERY
    WITH input AS MATERIALIZED (
        SELECT nextval('taskd.job_ids') AS id, clock_timestamp() AS created_at, j.*
        FROM ROWS FROM (json_to_recordset($1) AS (
            task text, queue text, priority smallint, max_retries smallint, retry_backoff jsonb, timeout float8,
            schedule_at timestamptz, delay float8, dedupe_key text, metadata jsonb, payload json, parent_id bigint
        )) WITH ORDINALITY AS j (
            task, queue, priority, max_retries, retry_backoff, timeout, schedule_at, delay, dedupe_key, metadata, payload, parent_id, place)
    ), timed AS MATERIALIZED (
        SELECT coalesce(schedule_at, created_at + make_interval(secs => coalesce(delay, 0))) AS due_at, input.* FROM input
    ), known AS MATERIALIZED (
        SELECT k.key, k.job_id FROM timed CROSS JOIN LATERAL (
            SELECT key, job_id FROM taskd.dedupe_keys WHERE key = timed.dedupe_key OFFSET 0) k
        WHERE timed.dedupe_key IS NOT NULL
    ), made AS (
        INSERT INTO taskd.dedupe_keys AS k (key, job_id)
        SELECT DISTINCT ON (dedupe_key) dedupe_key, id FROM timed
        WHERE dedupe_key IS NOT NULL AND dedupe_key NOT IN (SELECT key FROM known) ORDER BY dedupe_key, place
        ON CONFLICT (key) DO UPDATE SET key = k.key
        RETURNING k.key, k.job_id
    ), keys AS (
        SELECT key, job_id FROM made UNION SELECT key, job_id FROM known
    ), stored AS (
        INSERT INTO taskd.jobs (id, task, queue, priority, max_retries, backoff, timeout, created_at, schedule_at, dedupe_key,
                                metadata, payload, parent_id)
        SELECT t.id, coalesce(t.task, 'default'), coalesce(t.queue, 'default'), coalesce(t.priority, 0), coalesce(t.max_retries, 3),
               '{"initial": 1.0, "factor": 2.0, "max": 3600.0, "jitter": true}'::jsonb || coalesce(t.retry_backoff, '{}'),
               t.timeout, t.created_at, t.due_at, t.dedupe_key, nullif(t.metadata, '{}'), coalesce(t.payload, 'null'), t.parent_id
        FROM timed t LEFT JOIN keys ON keys.key = t.dedupe_key
        WHERE t.dedupe_key IS NULL OR keys.job_id = t.id
    )
    SELECT coalesce(keys.job_id, t.id), coalesce(keys.job_id <> t.id, false)
    FROM timed t LEFT JOIN keys ON keys.key = t.dedupe_key
    ORDER BY t.place;
    -- The leaders hear of it when this commits. One transaction at a time rings: NOTIFY makes commits wait for one another
    -- (docs/adr/0023-transactions.md). Who does not ring is found with the next ring, or by the leaders' slow poll.
    IF FOUND AND current_setting('taskd.notify', true) IS DISTINCT FROM 'off' AND pg_try_advisory_xact_lock(7461736365) THEN
        PERFORM pg_notify('taskd_jobs', '');
    END IF;
END
$function$;

REVOKE ALL ON FUNCTION taskd.submit_many(json) FROM PUBLIC;

CREATE OR REPLACE FUNCTION taskd.time_fault(value jsonb)
 RETURNS text
 LANGUAGE plpgsql
 STABLE PARALLEL SAFE
AS $function$
DECLARE
    written text := value #>> '{}';
    instant timestamptz;
BEGIN
    IF jsonb_typeof(value) <> 'string' OR written !~
       '^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]+)?([Zz]|[+-][0-9]{2}:?[0-9]{2})$' THEN
        RETURN 'must be an RFC 3339 time with an offset, as in 2026-01-31T12:00:00Z';
    END IF;
    BEGIN
        instant := written::timestamptz;
    EXCEPTION WHEN data_exception THEN
        RETURN 'must be an RFC 3339 time with an offset, as in 2026-01-31T12:00:00Z';
    END;
    IF instant < '1970-01-01T00:00:00Z'::timestamptz OR instant > '9999-01-01T00:00:00Z'::timestamptz THEN
        RETURN 'must be between the years 1970 and 9998';
    END IF;
    RETURN NULL;
END
$function$;

CREATE OR REPLACE FUNCTION taskd.unstorable(jobs json)
 RETURNS text
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
DECLARE
    job json;
    place int := 0;
BEGIN
    FOR job IN SELECT json_array_elements(jobs) LOOP
        PERFORM job::jsonb;
        place := place + 1;
    END LOOP;
    RETURN 'jobs: has a fault that none of them has alone';
EXCEPTION WHEN data_exception THEN
    RETURN format('jobs[%s]: PostgreSQL cannot store it: %s', place, SQLERRM);
END
$function$;
