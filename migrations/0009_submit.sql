-- Submitting in SQL: a job that is made in somebody's own transaction exists if and only if that commits (docs/transactions.md).
-- The rules are those of POST /jobs, src/taskd/api/submission.py; tests/integration/test_sql_submit.py holds the two together.

CREATE FUNCTION taskd.is_name(value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_typeof(value) = 'string' AND length(value #>> '{}') <= 255 AND (value #>> '{}') ~ '^[A-Za-z0-9_.:/-]+$'
$$;

-- A whole number that was written as one, so 5 and not 5.0.
CREATE FUNCTION taskd.is_whole(value jsonb, lowest jsonb, highest jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_typeof(value) = 'number' AND value >= lowest AND value <= highest AND value::text ~ '^-?[0-9]+$'
$$;

CREATE FUNCTION taskd.is_seconds(value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_typeof(value) = 'number' AND value >= '0' AND value <= '315360000'
$$;

-- What is wrong with a payload that is not tiny: NULL, or words. Short ones have no room for either fault.
CREATE FUNCTION taskd.payload_fault(payload jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
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
$$;

CREATE FUNCTION taskd.metadata_fault(metadata jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
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
$$;

-- True for most metadata there is: short and flat, so that it needs no closer look.
CREATE FUNCTION taskd.is_plain(metadata jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT octet_length(metadata::text) <= 256 AND metadata::text ~ '^[{][^][{}]*[}]$'
       AND metadata::text !~ '[0-9]{19}' AND position('"": ' IN metadata::text) = 0
$$;

-- As a fault with the name of its field before it.
CREATE FUNCTION taskd.backoff_fault(backoff jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
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
$$;

CREATE FUNCTION taskd.time_fault(value jsonb) RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
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
$$;

-- What is wrong with a job, given as POST /jobs takes it: NULL, or "FIELD: what it must be". No subqueries, so that it is inlined.
CREATE FUNCTION taskd.job_fault(job jsonb) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
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
$$;

-- Which job jsonb does not take, and why. The slow way, for the message.
CREATE FUNCTION taskd.unstorable(jobs json) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
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
$$;

-- Raises for the first job that POST /jobs would refuse: SQLSTATE 22023, or 54000 for a payload that is too large.
CREATE FUNCTION taskd.check_jobs(jobs json) RETURNS void LANGUAGE plpgsql STABLE AS $$
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
$$;

-- Stores jobs, all or none: an array of what POST /jobs takes. The ids come in its order.
-- The statement is that of src/taskd/store/sql/submit.sql but for two things: what may be left out gets its default here, and a key
-- that is taken is looked up before it is tried, so that no transaction holds the rows of keys that are not its own.
CREATE FUNCTION taskd.submit_many(jobs json) RETURNS TABLE (id bigint, duplicate boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
$$;

-- Stores one job. Times are in seconds, as everywhere; what is NULL is not given.
CREATE FUNCTION taskd.submit(
    task text, payload jsonb, queue text DEFAULT NULL, priority int DEFAULT NULL, dedupe_key text DEFAULT NULL,
    schedule_at timestamptz DEFAULT NULL, delay float8 DEFAULT NULL, max_retries int DEFAULT NULL, retry_backoff jsonb DEFAULT NULL,
    timeout float8 DEFAULT NULL, metadata jsonb DEFAULT NULL, parent_id bigint DEFAULT NULL, OUT id bigint, OUT duplicate boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
$$;

-- An application's role needs USAGE on the schema and EXECUTE on these two, and no right to any table.
REVOKE ALL ON FUNCTION taskd.submit, taskd.submit_many(json) FROM PUBLIC;

-- Completing in SQL: what a task's own transaction does at its end (docs/transactions.md). The fence is that of settle.sql.

-- Whose claim an attempt is, while it holds; NULL if it does not. An attempt's number belongs to one claim.
CREATE FUNCTION taskd.session_of(job_id bigint, attempt int) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT j.session_id FROM taskd.jobs j WHERE j.id = $1 AND j.attempt = $2 AND j.status = 'running'
$$;

-- Completes a job as settle.sql does, under its claim (id, attempt, session). Raises SQLSTATE TD001 if that does not hold, so that
-- a COMMIT that was sent along commits nothing.
CREATE FUNCTION taskd.complete(job_id bigint, attempt int, session uuid, result json, progress json DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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
$$;

-- What became of an attempt whose COMMIT was not answered: 'running' if nothing was committed, else how it ended, or 'lost'.
-- The row's lock is waited for, so that a transaction that is not over cannot change the answer.
CREATE FUNCTION taskd.fate_of(job_id bigint, attempt int) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM taskd.jobs j WHERE j.id = $1 AND j.attempt = $2 AND j.status = 'running' FOR KEY SHARE;
    IF FOUND THEN
        RETURN 'running';
    END IF;
    RETURN coalesce((SELECT f.outcome FROM taskd.finished_jobs f WHERE f.id = $1 AND f.attempt = $2), 'lost');
END
$$;

-- For the role of ctx.transaction(): USAGE on the schema and EXECUTE on these three.
REVOKE ALL ON FUNCTION taskd.session_of, taskd.complete, taskd.fate_of FROM PUBLIC;
